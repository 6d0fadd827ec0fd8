#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Translations: all texts of the source can be taken out of it, and each catalog has all of them."""

from __future__ import annotations

import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PO = ROOT / "po"
OPTIONS = PO.joinpath("xgettext-options").read_text().splitlines()
PLACES = ("include", "src", "status")


def run(*command: str | pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False
    )


def lines(path: pathlib.Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def languages() -> list[str]:
    return lines(PO / "LINGUAS")


def sources() -> list[str]:
    """All that may hold texts."""
    found = [path for place in PLACES for path in (ROOT / place).rglob("*") if path.suffix in (".cc", ".h")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def taken_out(*files: str) -> subprocess.CompletedProcess:
    return run("xgettext", *OPTIONS, "--output=-", *files)


class Catalogs(unittest.TestCase):
    def check(self, result: subprocess.CompletedProcess) -> None:
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.args)

    def template(self, folder: str) -> pathlib.Path:
        """All texts of the source."""
        result = taken_out(*lines(PO / "POTFILES.in"))
        self.check(result)
        path = pathlib.Path(folder) / "all.pot"
        path.write_text(result.stdout)
        return path

    def test_files_with_texts_are_those_that_are_named(self) -> None:
        with_texts = [path for path in sources() if taken_out(path).stdout]
        self.assertEqual(lines(PO / "POTFILES.in"), with_texts)

    def test_texts_can_be_taken_out_without_a_warning(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            template = self.template(folder)
            self.check(run("msgfmt", "--check-format", "--output=/dev/null", template))
            self.assertGreater(template.read_text().count("\nmsgid "), 100)

    def test_a_text_with_numbers_is_a_format(self) -> None:
        """Else a translation with other conversions would not be noticed."""
        with tempfile.TemporaryDirectory() as folder:
            entries = self.template(folder).read_text().split("\n\n")
        unmarked = [entry for entry in entries if "%s" in entry and "c-format" not in entry]
        self.assertEqual(unmarked, [])

    def test_catalogs_are_those_that_are_named(self) -> None:
        self.assertEqual(sorted(languages()), sorted(path.stem for path in PO.glob("*.po")))

    def test_catalogs_have_all_texts_and_no_other(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            template = self.template(folder)
            for language in languages():
                with self.subTest(language):
                    catalog = PO / f"{language}.po"
                    self.check(run("msgcmp", catalog, template))
                    self.check(run("msgcmp", "--use-untranslated", "--use-fuzzy", template, catalog))
                    self.assertNotIn("\n#~", catalog.read_text(), "texts that are used no more")

    def test_catalogs_are_complete(self) -> None:
        for language in languages():
            with self.subTest(language):
                result = run("msgfmt", "--check", "--statistics", "--output=/dev/null", PO / f"{language}.po")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertRegex(result.stderr, r"^\d+ translated messages\.\n$")


if __name__ == "__main__":
    unittest.main()
