"""The settings file that ships says what the package would do without it."""

from dataclasses import fields

from keyreid.settings import Settings, read_settings


def test_the_shipped_settings_are_the_defaults(root, tmp_path):
    shipped = read_settings(root / "settings.ini")
    empty = tmp_path / "settings.ini"
    empty.write_text("[keyreid]\n")
    default = read_settings(empty)
    for field in fields(Settings):
        mine, theirs = getattr(shipped, field.name), getattr(default, field.name)
        if field.name in ("data", "cache", "runs", "base"):
            mine, theirs = mine.relative_to(root), theirs.relative_to(tmp_path)
        assert mine == theirs, field.name
