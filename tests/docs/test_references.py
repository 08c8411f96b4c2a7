"""References to files, headings and decision records resolve, in documents as in comments."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from references import Repository, slug

CHECKOUT = Path(__file__).resolve().parents[2]
DECISION_PARTS = ["Status", "Context", "Decision", "Consequences"]

GUIDE = """# The guide

## Life of a message
## Costs & limits: `make run`
## Life of a message

```console
$ echo "[not a link](nowhere.md)"
# Not a heading
```
"""

# Files of a repository whose references all resolve.
GOOD = {
    "README.md": "[Guide](docs/guide.md#life-of-a-message-1), [costs](<docs/guide.md#costs--limits-make-run>), [AWS](https://aws.amazon.com/#top), "
    "[below](#below), [code](tests/run.rs#L1), `tests/*.rs`, `make run DATA=local/NAME/…`, docs/adr/0001.\n\n## Below\n",
    "docs/guide.md": GUIDE + "\n[Start](../README.md#below), [record](/docs/adr/0001-a-choice.md), [rest]\n\n[rest]: ../tests/run.rs\n",
    "docs/adr/0001-a-choice.md": "# A choice\n",
    "tests/run.rs": '//! See README.md and docs/guide.md, "Life of a message" and\n//! "The guide" (docs/adr/0001); `tests/run.rs`.\nconst URL: &str = "http://local/nothing"; // docs/NAME.md\n',
    "infra/template.yaml": "# See docs/guide.md#the-guide.\nDescription: docs/guide.md describes infra/template.yaml\n",
}

# Files with references that do not resolve, and where each of these is reported.
BAD = {
    "README.md": "[a](docs/gone.md)\n[b](docs/guide.md#gone)\n[c](#gone)\n`local/gone`\n[d]: docs/gone.md\n[e](../outside.md)\n"
    "infra/gone.yaml\n[f](tests/run.rs#gone)\n`tests/*.toml`\nprotocol.md\n[g](docs#life-of-a-message)\n",
    "docs/guide.md": GUIDE + "See guide.md.\n",
    "tests/run.rs": '//! See docs/gone.md,\n//! docs/guide.md#gone, docs/guide.md, "Life of a message" and\n//! "Gone" (api.md).\n// docs/adr/0002, ADR 0003, `functions/gone`\n'
    'const HELP: &str = "see docs/lost.md"; // docs/guide.md, Identity)\nconst PATH: &str = "local/not-a-comment";\n',
    "tests/check.py": '"""See local/gone."""\n\nPATH = "local/not-a-comment"  # infra/gone\n',
    "infra/template.yaml": "# tests/gone\nDescription: as in architecture.md\n",
    "Makefile": "run: ## Run it (docs/gone.md)\n\t@echo local/not-a-comment\n",
}
REPORTED = [
    ("Makefile", 1, "docs/gone.md"),
    ("README.md", 1, "docs/gone.md"),
    ("README.md", 2, "docs/guide.md#gone"),
    ("README.md", 3, "#gone"),
    ("README.md", 4, "local/gone"),
    ("README.md", 5, "docs/gone.md"),
    ("README.md", 6, "../outside.md"),
    ("README.md", 7, "infra/gone.yaml"),
    ("README.md", 8, "tests/run.rs#gone"),
    ("README.md", 9, "tests/*.toml"),
    ("README.md", 10, "protocol.md"),
    ("README.md", 11, "docs#life-of-a-message"),
    ("docs/guide.md", 11, "guide.md"),
    ("infra/template.yaml", 1, "tests/gone"),
    ("infra/template.yaml", 2, "architecture.md"),
    ("tests/check.py", 1, "local/gone"),
    ("tests/check.py", 3, "infra/gone"),
    ("tests/run.rs", 1, "docs/gone.md"),
    ("tests/run.rs", 2, "docs/guide.md#gone"),
    ("tests/run.rs", 2, 'docs/guide.md, "Gone"'),
    ("tests/run.rs", 3, "api.md"),
    ("tests/run.rs", 4, "ADR 0003"),
    ("tests/run.rs", 4, "docs/adr/0002"),
    ("tests/run.rs", 4, "functions/gone"),
    ("tests/run.rs", 5, "docs/guide.md, Identity"),
    ("tests/run.rs", 5, "docs/lost.md"),
]


def problems_of(files: dict[str, str]) -> list:
    """What is reported of a repository that consists of these files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run(["git", "init", "--quiet", folder], check=True)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return Repository(root).problems()


class References(unittest.TestCase):
    def test_every_reference_resolves(self):
        problems = Repository(CHECKOUT).problems()
        if problems:
            self.fail(f"{len(problems)} references do not resolve:\n" + "\n".join(map(str, problems)))


class Checker(unittest.TestCase):
    def test_valid_references_are_accepted(self):
        self.assertEqual([], [str(problem) for problem in problems_of(GOOD)])

    def test_each_broken_reference_is_reported_with_its_line(self):
        found = sorted((p.file, p.line, p.reference) for p in problems_of(BAD))
        self.assertEqual(sorted(REPORTED), found)

    def test_slugs_follow_github(self):
        for heading, expected in [
            ("Ingest is behind", "ingest-is-behind"),
            ("`make run`: ports & data", "make-run-ports--data"),
            ("What [replay](archive.md) stores", "what-replay-stores"),
            ("Über *alles* _nun_ snake_case", "über-alles-nun-snake_case"),
            ("Version 1 (no `v`)", "version-1-no-v"),
        ]:
            self.assertEqual(expected, slug(heading), heading)


class MakeTargets(unittest.TestCase):
    def test_each_target_named_in_the_repository_exists(self):
        repository = Repository(CHECKOUT)
        targets = set(re.findall(r"^([a-z0-9-]+):", repository.read("Makefile"), re.MULTILINE))
        for name in repository.files:
            if not name.startswith("tests/docs/"):
                for target in re.findall(r"(?:`|^\$ )make ([a-z][a-z0-9-]*)", repository.read(name), re.MULTILINE):
                    self.assertIn(target, targets, name)


class DecisionRecords(unittest.TestCase):
    def setUp(self):
        self.records = sorted((CHECKOUT / "docs/adr").glob("[0-9]*.md"))

    def test_numbers_are_consecutive(self):
        numbers = [int(record.name[:4]) for record in self.records]
        self.assertEqual(list(range(1, len(numbers) + 1)), numbers)

    def test_each_record_has_its_parts_in_order(self):
        for record in self.records:
            with self.subTest(record=record.name):
                self.assertEqual(DECISION_PARTS, re.findall(r"^## (.*)$", record.read_text(), re.MULTILINE))

    def test_the_index_lists_each_record_with_its_title(self):
        row = re.compile(r"^\| \[(\d{4})\]\((\1-[\w-]+\.md)\) \| (.+?) \| .+\.? \|$", re.MULTILINE)
        listed = [(match[2], match[3]) for match in row.finditer((CHECKOUT / "docs/adr/README.md").read_text())]
        titles = [(record.name, record.read_text().split("\n", 1)[0].partition(". ")[2]) for record in self.records]
        self.assertEqual(titles, listed)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
