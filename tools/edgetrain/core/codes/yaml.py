"""What the strict YAML reader refuses (codes Y1xx)."""

from __future__ import annotations

from edgetrain.core.problem import Code

TOO_LARGE = Code(
    "Y101",
    "file too large",
    "A manifest is text that people review; one above 1 MiB is data, or an attack on the reader.",
    "Keep manifests under 1 MiB; put data where the experiment's inputs point to.",
)
NOT_UTF8 = Code(
    "Y102",
    "not UTF-8",
    "Bytes that are not UTF-8 are read differently by every tool, so the reviewer sees another file.",
    "Save the file as UTF-8.",
)
CONTROL_CHARACTER = Code(
    "Y103",
    "control character",
    "Control and direction-changing characters are invisible in a review and can hide what a manifest says.",
    "Remove the character; tabs and line ends are the only ones that a manifest may hold.",
)
SYNTAX = Code(
    "Y104",
    "not YAML",
    "The file can't be read any further than this place.",
    "Mend the place named; look at the line above it too, for indentation and open quotes or brackets.",
)
SEVERAL_DOCUMENTS = Code(
    "Y105",
    "more than one document",
    "One file holds one manifest, so that each has one path, one history and one owner.",
    "Move what follows the second `---` into a file of its own.",
)
NO_MAPPING = Code(
    "Y106",
    "no manifest in the file",
    "A manifest is a mapping with the keys apiVersion, kind, metadata and spec.",
    "Write the manifest's keys at the top level; `edgetrain new` makes a valid one.",
)
DUPLICATE_KEY = Code(
    "Y107",
    "key given twice",
    "Most readers keep the last value silently, so people may read one value and the machine another.",
    "Keep one of the two.",
)
KEY_NOT_TEXT = Code(
    "Y108",
    "key is not text",
    "Keys are names: text, or whole numbers where versions are named.",
    "Write the key as text, in quotes if it looks like something else.",
)
TAG = Code(
    "Y109",
    "tag",
    "Tags such as `!x` or `!!python/object` ask a reader to make something other than plain data.",
    "Remove the tag, and quote the value if text is meant.",
)
BAD_ALIAS = Code(
    "Y110",
    "alias without its anchor",
    "An alias `*x` repeats a value that was marked `&x` and ended earlier in the same file.",
    "Mark the value with an anchor before the alias, or write the value out.",
)
ALIAS_BOMB = Code(
    "Y111",
    "aliases expand too far",
    "A few lines of nested aliases can stand for millions of values.",
    "Write the values out, or use fewer aliases; all aliases of a file may add 10,000 values.",
)
MERGE_KEY = Code(
    "Y112",
    "merge key",
    "`<<` is not part of YAML 1.2, and what it overrides is easily misread in a review.",
    "Write the merged keys out.",
)
AMBIGUOUS_WORD = Code(
    "Y113",
    "word that may mean true or false",
    "YAML 1.1 takes a bare yes, no, on, off, y or n for true or false, YAML 1.2 for text.",
    "Put it in quotes if text is meant; else write true or false.",
)
SPELLING = Code(
    "Y114",
    "other spelling of true, false or null",
    "One spelling each keeps manifests comparable, and `~` is easily overlooked.",
    "Write true, false or null in lower case; put it in quotes if text is meant.",
)
AMBIGUOUS_NUMBER = Code(
    "Y115",
    "number that readers disagree about",
    "YAML 1.1 and 1.2 read such a value differently: octal or decimal, base 60, or text.",
    "Write it as a plain decimal such as 15 or 1.0e-4, or put it in quotes if text is meant.",
)
BARE_DATE = Code(
    "Y116",
    "date without quotes",
    "Some readers make a date or time of it, others text.",
    'Put it in quotes: "2026-12-31".',
)
NOT_FINITE = Code(
    "Y117",
    "not a finite number",
    "Infinity and not-a-number can't be compared, nor written to a record.",
    "Write a finite number, or leave the key out.",
)
INTEGER_TOO_LARGE = Code(
    "Y118",
    "whole number too large",
    "Beyond ±2^53 a whole number does not survive JSON, so records would differ from the manifest.",
    "Write a smaller number, or put it in quotes if it is a name and not a quantity.",
)
TOO_DEEP = Code(
    "Y119",
    "nested too deep",
    "No manifest needs more than 64 levels; deeper nesting only serves to break a reader.",
    "Flatten the value.",
)
TOO_MANY_VALUES = Code(
    "Y120",
    "too many values",
    "A manifest of more than 100,000 values is data, not something that people review.",
    "Move the data to a datastore and name it as an input.",
)
TOO_MANY_PROBLEMS = Code(
    "Y121",
    "more problems in this file",
    "After 100 problems of one file the rest is not shown.",
    "Mend those shown and validate again.",
)
