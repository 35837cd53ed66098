"""The command `stonechat`. Every subcommand finds the embedded services, or starts them for as long as it needs them."""

from stonechat.cli import backups, configuration, measuring, people, serving, upkeep
from stonechat.cli.group import load_settings, main

__all__ = ["backups", "configuration", "load_settings", "main", "measuring", "people", "serving", "upkeep"]
