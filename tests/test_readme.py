"""The README says what is true now: every setting and topic is in it, and every file it names exists."""

import re
from pathlib import Path

from infra.settings import Settings
from infra.topics import all_topics

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_table_with_its_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\| `(REFOLD_\w+)` \| .*? \| (.*) \|$", README, re.MULTILINE))
    settings = {f"REFOLD_{name.upper()}": field.description for name, field in Settings.model_fields.items()}
    assert rows == settings


def test_every_topic_is_in_the_table() -> None:
    table = README[README.index("<!-- topics -->") : README.index("## Settings")]
    named = {name for name in re.findall(r"`([a-z.-]+)`", table) if name != "directory"}
    assert named == {topic.name for topic in all_topics(Settings())}


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`((?:infra|domain|workers|projections|api|agents)/[\w./-]+)`", README))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
