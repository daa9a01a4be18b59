"""Classes as they are typed: by name in upper or lower case, or by number."""

from __future__ import annotations

from collections.abc import Sequence

from .help import near


def class_number(text: str, class_names: Sequence[str] | None) -> int:
    """Number of the class that was typed.

    Parameters
    ----------
    text : str
        A name, as it is or in another case; or a number, if no class has it as its name.
    class_names : sequence of str, optional
        Names by number; None where classes have no names, and are numbers.

    Raises
    ------
    ValueError
        For a name that no class has (near ones are proposed), or one that several have in other cases.
    """
    names = list(class_names or [])
    if text in names:
        return names.index(text)
    alike = [number for number, name in enumerate(names) if name.casefold() == text.casefold()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise ValueError(f"the class {text!r} may be {' or '.join(names[number] for number in alike)}; write it as it is.")
    if text.isdecimal():
        return int(text)
    if not names:
        raise ValueError(f"the class {text!r} was given, but the classes have no names here; give a number.")
    meant = near(text, names)
    known = f"did you mean {' or '.join(meant)}?" if meant else f"choose one of {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}."
    raise ValueError(f"there is no class {text!r}; {known}")
