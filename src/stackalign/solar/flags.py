"""Why a coalignment should not be trusted: the flags of registrations, and those on the model of the header."""

from collections.abc import Mapping

from stackalign.registration import FLAGS as REGISTRATION_FLAGS

__all__ = ["FLAGS", "sentences"]

FLAGS: Mapping[str, str] = {
    **REGISTRATION_FLAGS,
    "model_too_small": "the images want a parameter that the model holds: fit a scale or the roll too",
    "inconsistent": "regions of the image want different shifts: look at the field, leave out what moved",
    "misfit": "observers or dates are so far apart that what is not known better, heights and laws of rotation, can "
    "decide the answer: choose a reference nearer in place or time",
}
"""Flags and what they mean; a result without flags can be trusted."""


def sentences(flags: tuple[str, ...], details: Mapping[str, str]) -> dict[str, str]:
    """Flags with the sentence that has this result's numbers, where there is one."""
    return {name: details.get(name) or FLAGS[name] for name in flags}
