"""Commands of a Markdown document: the lines with a `$ ` prompt in its ```console blocks."""

import re
from dataclasses import dataclass

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = "$ "


@dataclass
class Command:
    """A command with its continuation lines, the output shown below it and its line in the
    document.
    """

    text: str
    line: int
    output: str = ""


def blocks(document: str) -> list[list[Command]]:
    """The commands of each block, in order."""
    found = []
    for match in BLOCK.finditer(document):
        first_line = document.count("\n", 0, match.start(1)) + 1
        commands: list[Command] = []
        for line, text in enumerate(match[1].splitlines(), first_line):
            if text.startswith(PROMPT):
                commands.append(Command(text.removeprefix(PROMPT), line))
            elif commands and commands[-1].text.endswith("\\") and not commands[-1].output:
                commands[-1].text += f"\n{text}"
            elif commands:
                commands[-1].output += f"{text}\n"
        found.append(commands)
    return found


def substitute(text: str, ports: dict[int, int], data: str) -> str:
    """The command with other ports and another data directory in the place of `.local`."""
    text = re.sub(r"(?<![\w.])\d{4}(?![\w.])", lambda m: str(ports.get(int(m[0]), m[0])), text)
    return re.sub(r"(?<![\w./])\.local(?![\w.-])", lambda _: data, text)


def differences(documented, actual, path: str = "$") -> list[str]:
    """Fields of documented JSON that the actual JSON does not have. Values and further fields may
    differ.
    """
    if isinstance(documented, dict) and isinstance(actual, dict):
        missing = [f"{path}.{name} is missing" for name in documented if name not in actual]
        common = [name for name in documented if name in actual]
        return missing + [d for name in common for d in differences(documented[name], actual[name], f"{path}.{name}")]
    if isinstance(documented, list) and isinstance(actual, list):
        return differences(documented[0], actual[0], f"{path}[0]") if documented and actual else []
    if isinstance(documented, (dict, list)) or isinstance(actual, (dict, list)):
        return [f"{path} is {type(actual).__name__}, documented is {type(documented).__name__}"]
    return []
