"""The entry point of the command line; `unnorm.command_line` has the commands."""

from unnorm.command_line.app import app

__all__ = ["app"]

if __name__ == "__main__":
    app()
