"""Comments of Rust files end at column 100. rustfmt's `comment_width` requires the nightly
compiler.
"""

import sys
import unittest
from pathlib import Path

from references import Repository, comments_of

MAX_COLUMNS = 100


def long_comments(name: str, text: str) -> list[str]:
    """The lines of a file that are longer than the limit and contain a comment."""
    lines = zip(text.split("\n"), comments_of(name, text).split("\n"), strict=True)
    return [
        f"{name}:{number}: {len(line)} columns"
        for number, (line, comment) in enumerate(lines, 1)
        if len(line) > MAX_COLUMNS and comment.strip()
    ]


class CommentWidth(unittest.TestCase):
    def test_comments_end_at_column_100(self):
        repository = Repository(Path(__file__).resolve().parents[2])
        files = [name for name in repository.files if name.endswith(".rs")]
        found = [line for name in files for line in long_comments(name, repository.read(name))]
        if found:
            self.fail(f"{len(found)} comment lines are too long:\n" + "\n".join(found))

    def test_only_comments_are_measured(self):
        text = f'let url = "https://{"a" * 100}";\n    /// {"é" * 92}\n    /// {"é" * 93}\nf(); // {"b" * 100}\n'
        self.assertEqual(["a.rs:3: 101 columns", "a.rs:4: 108 columns"], long_comments("a.rs", text))


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
