"""The README's page "In production": its commands, as they stand there."""

import re

from tests.deploy.files import ROOT


def sections() -> dict[str, list[str]]:
    """The shell blocks of each way to run it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page = text.partition("\n## In production\n")[2].partition("\n## ")[0]
    ways = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    return {way.partition("\n")[0]: re.findall(r"```sh\n(.*?)```", way, re.DOTALL) for way in ways}


INSTALL, SETTINGS, RUN = sections()["With pip alone"]

NOT_RUN_HERE = [
    line
    for way, blocks in sections().items()
    if way != "With pip alone"
    for block in blocks
    for line in block.splitlines()
]
"""What needs a Docker engine, a cluster or systemd as the first process."""
