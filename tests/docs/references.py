"""Finds references to files, headings and decision records of this repository, and reports those
that do not resolve.

Markdown files: links (also those with an anchor), paths written as code, and names of documents in
the text. Source files: names of documents anywhere in the file, and paths in comments and
docstrings.

An anchor is valid if GitHub derives it from a heading:
https://docs.github.com/en/get-started/writing-on-github (section links). Only ATX headings (`##
Title`) and explicit anchors (`<a id="…">`) are recognized.
"""

import io
import re
import subprocess
import tokenize
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

# Paths that begin with one of these folders are references to this repository.
FOLDERS = ("cli", "docs", "functions", "infra", "local", "tests")
SOURCES = {".rs", ".py", ".yaml", ".yml", ".toml", ".sh", ".conf"}
SOURCE_NAMES = {"Makefile", "Dockerfile", "setup", "run"}
# The checker itself and its bad sample.
EXCLUDED = ("tests/docs/",)

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
EXPLICIT_ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*(<[^>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+[\"'][^\"')]*[\"'])?\s*\)")
LINK_DEFINITION = re.compile(r"^ {0,3}\[([^\]]+)\]:[ \t]*(\S+)", re.MULTILINE)
EXTERNAL = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
LINES = re.compile(r"^L\d+(?:C\d+)?(?:-L\d+(?:C\d+)?)?$")

# `name.md`, with a path or without, and what may follow it: an anchor, or headings in quotes.
DOCUMENT = re.compile(r"(?<![\w./*{}:-])((?:\.{0,2}/)?(?:[\w.-]+/)*[\w-]+\.md)(?![\w-])(#[\w%-]+)?")
QUOTED_HEADINGS = re.compile(r",\s+(\\?\"[^\"\n]{1,100}\"(?:(?:,| and|, and)\s+\\?\"[^\"\n]{1,100}\")*)")
UNQUOTED_HEADING = re.compile(r",\s+([A-Z][a-z]\w*(?: \w+)?)\s*[);]")
RECORD = re.compile(r"(?<![\w/])docs/adr/(\d{4})(?![\w-])|\bADR[ -](\d{4})\b")
PATH = re.compile(r"(?<![\w./*{}<>$@:-])((?:%s)/[^\s`'\"<>()\[\],;|]+)" % "|".join(FOLDERS))


@dataclass(frozen=True)
class Problem:
    """A reference that does not resolve."""

    file: str
    line: int
    reference: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reference}: {self.reason}"


def slug(heading: str) -> str:
    """The anchor that GitHub derives from the text of a heading, without the suffix of a duplicate.
    """
    text = plain(heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def plain(heading: str) -> str:
    """The text of a heading as it is rendered."""
    text = LINK.sub(r"\1", heading)
    text = re.sub(r"`+", "", text)
    text = re.sub(r"(?<!\w)_(\S(?:.*?\S)?)_(?!\w)", r"\1", text)
    return " ".join(text.replace("*", "").split(" ")).strip()


def blank(pattern: re.Pattern, text: str) -> str:
    """The text with each match replaced by spaces, so that offsets and lines stay."""
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def flatten(text: str) -> str:
    """The text as one line, with comment markers at line starts replaced by spaces; offsets stay.
    """
    return re.sub(r"\n[ \t]*(?://[/!]?|#+)?", lambda m: " " * len(m.group()), text)


class Repository:
    """The files of a checkout, without those that Git ignores."""

    def __init__(self, root: Path):
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, check=True, capture_output=True, text=True,
        ).stdout.split("\0")
        self.files = sorted({name for name in listed if name and (root / name).is_file()})
        self.paths = set(self.files)
        for name in self.files:
            self.paths.update(str(parent) for parent in PurePosixPath(name).parents)
        self._headings: dict[str, tuple[set[str], set[str]]] = {}

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8", errors="replace")

    def exists(self, path: str) -> bool:
        path = path.rstrip("/")
        if "*" in path or "?" in path:
            return any(fnmatchcase(candidate, path) for candidate in self.paths)
        return path in self.paths

    def headings(self, name: str) -> tuple[set[str], set[str]]:
        """The headings of a Markdown file as rendered, and its anchors."""
        if name not in self._headings:
            text = blank(HTML_COMMENT, blank(FENCE, self.read(name)))
            titles, anchors = set(), set(EXPLICIT_ANCHOR.findall(text))
            used: dict[str, int] = {}
            for heading in HEADING.findall(text):
                titles.add(plain(heading))
                base = slug(heading)
                anchor = base
                while anchor in used:
                    used[base] += 1
                    anchor = f"{base}-{used[base]}"
                used[anchor] = 0
                anchors.add(anchor)
            self._headings[name] = (titles, anchors)
        return self._headings[name]

    def records(self, number: str) -> list[str]:
        return [name for name in self.files if fnmatchcase(name, f"docs/adr/{number}-*.md")]

    def problems(self) -> list[Problem]:
        """Every reference that does not resolve, in all files."""
        found = []
        for name in self.files:
            if name.startswith(EXCLUDED):
                continue
            if name.endswith(".md"):
                found += self.in_markdown(name, self.read(name))
            elif PurePosixPath(name).suffix in SOURCES or PurePosixPath(name).name in SOURCE_NAMES:
                found += self.in_source(name, self.read(name))
        return found

    def in_markdown(self, name: str, text: str) -> list[Problem]:
        found = Findings(name, text)
        prose = blank(HTML_COMMENT, blank(FENCE, text))
        without_code = blank(CODE_SPAN, prose)
        for pattern in (LINK, LINK_DEFINITION):
            for match in pattern.finditer(without_code):
                self._check_link(found, match.start(2), match.group(2))
        # The text of a link may name its target as it likes. Code spans may contain brackets, so
        # links are blanked first.
        without_links = list(prose)
        for pattern in (LINK, LINK_DEFINITION):
            for match in pattern.finditer(without_code):
                for at in range(*match.span()):
                    if without_links[at] != "\n":
                        without_links[at] = " "
        rest = "".join(without_links)
        self._check_documents(found, rest, PurePosixPath(name).parent)
        for match in CODE_SPAN.finditer(rest):
            self._check_paths(found, match.group(2), match.start(2))
        for match in PATH.finditer(blank(CODE_SPAN, rest)):
            if match.group(1).startswith("infra/"):
                self._check_path(found, match.start(1), match.group(1))
        return found.problems

    def in_source(self, name: str, text: str) -> list[Problem]:
        found = Findings(name, text)
        self._check_documents(found, text, None)
        comments = comments_of(name, text)
        self._check_paths(found, comments, 0)
        return found.problems

    def _check_link(self, found: "Findings", at: int, target: str) -> None:
        target = target.strip("<>")
        if not target:
            return found.add(at, "[…]()", "the link has no target")
        if EXTERNAL.match(target):
            return
        path, _, anchor = unquote(target).partition("#")
        if path:
            base = "" if path.startswith("/") else str(PurePosixPath(found.file).parent)
            path = normpath(f"{base}/{path.lstrip('/')}".lstrip("/"))
            if path.startswith(".."):
                return found.add(at, target, "the target is outside of the repository")
            if not self.exists(path):
                return found.add(at, target, "no such file")
        else:
            path = found.file
        if anchor:
            self._check_anchor(found, at, target, path, anchor)

    def _check_anchor(self, found: "Findings", at: int, reference: str, path: str, anchor: str) -> None:
        if path not in self.files:
            readme = f"{path}/README.md"
            if readme not in self.files:
                return found.add(at, reference, "a folder has no headings")
            path = readme
        if not path.endswith(".md"):
            if not LINES.match(anchor):
                found.add(at, reference, "only Markdown files have headings")
        elif anchor not in self.headings(path)[1]:
            found.add(at, reference, f"no such heading in {path}")

    def _check_documents(self, found: "Findings", text: str, folder: PurePosixPath | None) -> None:
        """Names of Markdown files in the text; `folder` is where a Markdown file may name a file
        beside it.
        """
        flat = flatten(text)
        for match in DOCUMENT.finditer(flat):
            written, anchor = match.group(1), match.group(2)
            if re.search(r"(?:^|/)(?:NAME|NNNN[\w-]*)\.md$", written):
                continue  # a placeholder
            path = written
            if folder is not None and written.startswith("./"):
                path = normpath(str(folder / written))
            if "/" not in written and not self.exists(written):
                elsewhere = [file for file in self.files if PurePosixPath(file).name == written]
                hint = f"write {elsewhere[0]}" if elsewhere else "no such document in the repository"
                found.add(match.start(), written, hint)
                continue
            if not self.exists(path):
                found.add(match.start(), written, "no such file")
                continue
            if anchor:
                self._check_anchor(found, match.start(), written + anchor, path, anchor[1:])
            quoted = QUOTED_HEADINGS.match(flat, match.end())
            if quoted:
                for heading in re.findall(r"\\?\"([^\"\n]+?)\\?\"", quoted.group(1)):
                    heading = " ".join(heading.split())
                    if heading not in self.headings(path)[0]:
                        found.add(match.start(), f'{written}, "{heading}"', "no such heading")
            unquoted = UNQUOTED_HEADING.match(flat, match.end())
            if unquoted:
                found.add(match.start(), f"{written}, {unquoted.group(1)}", "write the heading in quotes")
        for match in RECORD.finditer(flat):
            number = match.group(1) or match.group(2)
            if len(self.records(number)) != 1:
                found.add(match.start(), match.group(), "no such decision record")

    def _check_paths(self, found: "Findings", text: str, offset: int) -> None:
        for match in PATH.finditer(text):
            self._check_path(found, offset + match.start(1), match.group(1))

    def _check_path(self, found: "Findings", at: int, written: str) -> None:
        path = re.sub(r"(?::\d+)+$|#.*$", "", written).rstrip(".:,!?")
        # Markdown files and records are checked with their headings; these are placeholders and
        # code.
        if ".md" in path or re.match(r"docs/adr/\d{4}$", path):
            return
        if re.search(r"[{}<>$…=\\]|(?:^|/)(?:[A-Z_]{2,}|\.{3})(?:/|\.|$)", path):
            return
        # `tests/…` in a crate may be its own folder of that name.
        crate = found.file.split("/src/")[0].split("/tests/")[0]
        if not self.exists(path) and not self.exists(f"{crate}/{path}"):
            found.add(at, path, "no such file or folder")


class Findings:
    """The problems of one file."""

    def __init__(self, file: str, text: str):
        self.file = file
        self.text = text
        self.problems: list[Problem] = []

    def add(self, offset: int, reference: str, reason: str) -> None:
        line = self.text.count("\n", 0, offset) + 1
        problem = Problem(self.file, line, reference, reason)
        if problem not in self.problems:
            self.problems.append(problem)


RUST = re.compile(
    r"(?P<raw>\bb?r(?P<hashes>#*)\".*?\"(?P=hashes))"
    r"|(?P<text>\"(?:\\.|[^\"\\])*\")"
    r"|(?P<char>'(?:\\.[^']*|[^'\\])')"
    r"|(?P<comment>//[^\n]*|/\*.*?\*/)",
    re.DOTALL,
)
HASH_COMMENT = re.compile(r"(?:^|(?<=\s))#[^\n]*", re.MULTILINE)


def comments_of(name: str, text: str) -> str:
    """The comments (and docstrings) of a source file, everything else blanked; offsets stay."""
    suffix = PurePosixPath(name).suffix
    if suffix == ".rs":
        spans = [m.span() for m in RUST.finditer(text) if m.group("comment")]
    elif suffix == ".py":
        spans = python_comments(text)
    else:
        spans = [m.span() for m in HASH_COMMENT.finditer(text)]
    kept = [c if c == "\n" else " " for c in text]
    for start, end in spans:
        kept[start:end] = text[start:end]
    return "".join(kept)


def python_comments(text: str) -> list[tuple[int, int]]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans, fresh = [], True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and fresh
        if token.type == tokenize.COMMENT or is_docstring:
            spans.append(tuple(starts[row - 1] + column for row, column in (token.start, token.end)))
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            fresh = True
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            fresh = False
    return spans
