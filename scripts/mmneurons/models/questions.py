"""Questions as a model is asked them: the templates of `resources/prompts.yaml`, filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def question_prompt(
    wording: Mapping[str, str], question: str, options: Sequence[str], role: str
) -> str:
    """A question in the words of the evaluation (Huo et al. 2024, table 5).

    wording: the templates `open` and `choice`; options: such as "A: liver", none for an open
    question, printed as a Python list as the released code prints them; role: what stands before
    the question, with a space at its end, or nothing.
    """
    if len(options):
        listed = [str(option) for option in options]
        return wording["choice"].format(role=role, question=question, options=listed)
    return wording["open"].format(role=role, question=question)
