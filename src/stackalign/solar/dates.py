"""Dates in headers: a day and a time of day that stand in two cards are one moment, and a day alone is none."""

import re
from collections.abc import Mapping
from typing import Any

from astropy.time import Time
from sunpy.map import GenericMap
from sunpy.time import parse_time
from sunpy.util import MetaDict

from stackalign.errors import DataError

__all__ = ["DATE_KEYS", "complete_dates", "parse_moment", "with_time_of_day"]

DATE_KEYS = (
    "date-avg", "date_avg", "date-obs", "date_obs", "date-beg", "date_beg", "date-end", "date_end", "t_obs",
)  # fmt: skip
"""Cards from which the moment of an observation is read, in the order of preference (that of sunpy)."""

_CLOCKS = {
    "avg": ("time-avg", "time_avg"),
    "obs": ("time-obs", "time_obs", "utc-obs", "utc_obs", "ut-obs", "time-beg", "time_beg", "utstart", "utc", "ut",
            "time"),
    "beg": ("time-beg", "time_beg", "time-obs", "time_obs", "utstart"),
    "end": ("time-end", "time_end", "utend"),
}  # fmt: skip
"""Cards that hold the time of day of a date card, by the last three letters of the latter."""

FIRST_YEAR = 57
"""Two digits of a year from which on they mean the twentieth century: nothing older flew."""

SAME_MOMENT = 60.0
"""Seconds within which two readings of a date differ by the time scale alone."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = re.compile(
    r"\s*(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2}|[A-Za-z]{3})[-/.](?P<d>\d{1,2})"
    r"|(?P<d2>\d{1,2})[-/.](?P<m2>\d{1,2}|[A-Za-z]{3})[-/.](?P<y2>\d{4}|\d{2})"
    r"|(?P<y3>\d{4})(?P<m3>\d{2})(?P<d3>\d{2}))(?P<rest>\D.*)?$"
)
_COMPACT = re.compile(r"\s*(\d{2})h?(\d{2})m?(\d{2}(?:\.\d*)?)s?\s*(?:UTC?|Z)?\s*")
_CLOCK = re.compile(r"(?<![\d:])(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d*)?))?(?![\d:])")


def _day(text: str) -> tuple[str, str] | None:
    """ISO day and what follows it; None for what is not recognised. Days before months, as FITS wrote until 1999."""
    match = _DAY.match(text)
    if match is None:
        return None
    year, month, day = next(
        (match[f"y{k}"], match[f"m{k}"], match[f"d{k}"]) for k in ("", "2", "3") if match[f"y{k}"] is not None
    )
    if not month.isdigit():
        if month.lower() not in _MONTHS:
            return None
        month = str(_MONTHS.index(month.lower()) + 1)
    if len(year) == 2:
        year = f"{'19' if int(year) >= FIRST_YEAR else '20'}{year}"
    return f"{year}-{int(month):02d}-{int(day):02d}", (match["rest"] or "").strip()


def _clock(value: Any) -> str | None:
    match = (_CLOCK.search(value) or _COMPACT.fullmatch(value)) if isinstance(value, str) else None
    if match is None:
        return None
    return f"{int(match[1]):02d}:{match[2]}:{match[3] or '00'}"


def _companion(header: Mapping[str, Any], key: str) -> str | None:
    """Time of day that belongs to a date card, from a card of its own."""
    kind = key[-3:]
    for name in _CLOCKS.get(kind, ()):
        if (clock := _clock(header.get(name))) is not None:
            return clock
    return None


def _completed(header: Mapping[str, Any], key: str) -> tuple[str, bool]:
    """Value of a date card with its time of day, and whether it has one."""
    text = str(header[key]).strip()
    parts = _day(text)
    if parts is None:
        return text, True  # sunpy knows more formats than this
    day, rest = parts
    own = _clock(rest)
    if own is None and re.search(r"\d{2}", rest):
        return text, True  # a time in another form, such as 20220401_120000
    if own is None or float(own.replace(":", "")) == 0.0:
        clock = _companion(header, key)
        if clock is not None and clock != own:
            return f"{day}T{clock}", True
        if own is None:
            return day, False
    iso = re.match(r"\d{4}-\d{2}-\d{2}[T ]", text) or text.endswith("TAI")
    return (text if iso else f"{day}T{own}"), True


def complete_dates(header: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Find what date cards lack.

    Parameters
    ----------
    header : mapping
        Whose keys are found in lower case.

    Returns
    -------
    changed : dict
        Cards with the value that they should have: a day joined with the time of day of TIME-OBS and its like.
    bare : tuple of str
        Cards with a day and no time of day anywhere.
    """
    changed, bare = {}, []
    for key in DATE_KEYS:
        if not header.get(key):
            continue
        value, complete = _completed(header, key)
        if not complete:
            bare.append(key)
        elif value != str(header[key]).strip():
            changed[key] = value
    return changed, tuple(bare)


def parse_moment(value: Any, timesys: Any = "UTC") -> Time:
    """Moment of a date card; "TAI" in the text goes before the header's time scale."""
    scale = "tai" if "TAI" in str(value) else str(timesys or "UTC").strip().lower()
    try:
        return parse_time(str(value).strip(), scale=scale)
    except (ValueError, TypeError) as error:
        msg = f"{value!r} is not a date that can be read"
        raise DataError(msg) from error


def with_time_of_day(solar_map: GenericMap, name: str = "the map") -> GenericMap:
    """Map whose reference date is a moment that its header states; the same map where it is already.

    Raises
    ------
    DataError
        The header has no date, or none with a time of day: neither the present time nor midnight is a substitute.
    """
    meta = solar_map.meta
    present = [key for key in DATE_KEYS if meta.get(key)]
    if not present:
        msg = f"{name} has no date: set DATE-AVG or DATE-OBS in its header"
        raise DataError(msg)
    changed, bare = complete_dates(meta)
    t_obs_alone = present == ["t_obs"]
    if not changed and not bare and not t_obs_alone:
        return solar_map
    header = MetaDict(meta)
    header.update(changed)
    known = [key for key in present if key not in bare]
    own_rule = type(solar_map).reference_date is not GenericMap.reference_date
    if own_rule:
        # Some instruments' classes join the cards themselves, in a time scale of their own, or have a card for it.
        moments = [parse_moment(header[key], header.get("timesys")) for key in known]
        if any(abs((solar_map.reference_date - moment).to_value("s")) < SAME_MOMENT for moment in moments):
            return solar_map
    if not known:
        card = bare[0].upper()
        msg = (
            f"{name}: {card} = {meta[bare[0]]!r} has no time of day, and no card {_CLOCKS['obs'][0].upper()} gives it: "
            f"set {card} to a date with a time of day"
        )
        raise DataError(msg)
    moment = parse_moment(header[known[0]], header.get("timesys"))
    made = solar_map._new_instance(solar_map.data, header, plot_settings=solar_map.plot_settings, mask=solar_map.mask)
    if abs((made.reference_date - moment).to_value("s")) > 1e-3:
        # A card without a time of day comes first in sunpy's order; this one comes before it.
        scale = str(header.get("timesys") or "UTC").strip().lower()
        made.meta["date-avg"] = getattr(moment, scale).isot
        if own_rule:
            made.meta["t_obs"] = made.meta["date-avg"]
    return made
