"""The moment of an observation: cards that hold a day and a time of day apart, and days without one."""

import warnings

import numpy as np
import pytest
import sunpy.map
from astropy.time import Time

from solar.make import TIME_AXIS, header
from stackalign import solar
from stackalign.errors import DataError

NOON = Time("2022-04-01T12:00:00")
INSTRUMENTS = {
    "plain": {"TELESCOP": "NONE", "INSTRUME": "NONE"},
    "lasco": {"TELESCOP": "SOHO", "INSTRUME": "LASCO", "DETECTOR": "C2"},
    "mdi": {"TELESCOP": "SOHO", "INSTRUME": "MDI", "CAMERA": "MDI"},
    "aia": {"TELESCOP": "SDO/AIA", "INSTRUME": "AIA_3", "WAVELNTH": 171, "WAVEUNIT": "angstrom"},
    "sxt": {"TELESCOP": "YOHKOH", "INSTRUME": "SXT"},
}


def dated(**cards):
    """Header with these dates alone, of a map seen from a known place."""
    made = header((8, 10), TELESCOP="NONE", INSTRUME="NONE")
    for key in ("DATE-OBS", "DATE-AVG", "DATE-BEG"):
        del made[key]
    made.update(cards)
    return made


def moments(made):
    """When the coordinates of a map hold, by its frame and by `observation_time`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = solar.as_map((np.ones((8, 10)), made))
        return read.coordinate_frame.obstime, solar.observation_time(read)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
@pytest.mark.parametrize(
    "cards",
    [
        {"DATE_OBS": "2022-04-01", "TIME_OBS": "12:00:00.000"},
        {"DATE-OBS": "2022-04-01", "TIME-OBS": "12:00:00"},
        {"DATE_OBS": "2022/04/01", "TIME-OBS": "12:00"},
        {"DATE-OBS": "2022-04-01T00:00:00.000", "TIME_OBS": "12:00:00Z"},
        {"DATE-AVG": "2022-04-01", "TIME-AVG": "12:00:00"},
        {"DATE-BEG": "2022-04-01", "TIME-BEG": "12:00:00 UT"},
        {"DATE-END": "2022-04-01", "TIME-END": "12:00:00"},
        {"DATE_OBS": "2022-04-01", "TIME_OBS": "120000"},
        {"DATE-OBS": "2022-04-01", "TIME-OBS": "12h00m00.0s"},
        {"DATE_BEG": "2022-04-01", "TIME_BEG": "12:00:00.00 UTC"},
        {"DATE-OBS": "01-APR-2022", "UT": "12:00:00"},
        {"DATE-OBS": "20220401", "UTC-OBS": "12:00:00"},
        {"DATE-OBS": "2022-04-01", "DATE-END": "2022-04-01T12:00:00"},
        {"T_OBS": "2022-04-01T12:00:00.00Z"},
        {"T_OBS": "2022.04.01_12:00:37_TAI"},
    ],
    ids=lambda cards: "+".join(cards),
)
def test_a_day_and_a_time_of_day_are_one_moment(instrument, cards) -> None:
    for found in moments(dated(**INSTRUMENTS[instrument], **cards)):
        assert abs((found - NOON).to_value("s")) < 0.01


@pytest.mark.parametrize(
    ("day", "clock", "moment"),
    [
        ("19/05/98", "22:21:43", "1998-05-19T22:21:43"),
        ("12-MAR-92", "03:00:00", "1992-03-12T03:00:00"),
        ("01-MAR-04", "00:00:14", "2004-03-01T00:00:14"),
    ],
)
def test_days_in_the_forms_of_older_archives(day, clock, moment) -> None:
    assert abs((moments(dated(DATE_OBS=day, TIME_OBS=clock))[1] - Time(moment)).to_value("s")) < 0.01


@pytest.mark.parametrize("key", ["DATE-OBS", "DATE_OBS", "DATE-AVG", "DATE-BEG"])
def test_a_day_alone_is_refused(key) -> None:
    with pytest.raises(DataError, match=rf"{key} = '2022-04-01' has no time of day.*TIME-OBS"):
        solar.as_map((np.ones((8, 10)), dated(**{key: "2022-04-01"})))
    with pytest.raises(DataError, match="has no time of day"):
        solar.as_map((np.ones((8, 10)), dated(**{key: "2022-04-01", "TIME-OBS": "noon"})))


def test_a_midnight_that_is_stated_is_one() -> None:
    for cards in ({}, {"TIME-OBS": "00:00:00"}):
        made = dated(**{"DATE-OBS": "2022-04-01T00:00:00"} | cards)
        assert moments(made)[1].isot == "2022-04-01T00:00:00.000"


def test_a_moment_is_not_changed_by_another_clock() -> None:
    """A complete date goes before TIME-OBS, which in some headers is that of something else."""
    made = dated(**{"DATE-OBS": "2022-04-01T12:00:00", "TIME-OBS": "13:00:00"})
    read = solar.as_map((np.ones((8, 10)), made))
    assert solar.observation_time(read).isot == "2022-04-01T12:00:00.000"
    assert read.meta["date-obs"] == "2022-04-01T12:00:00"


def test_classes_that_join_the_cards_themselves() -> None:
    """GONG's times are those of GPS, 18 seconds ahead of UTC, which its class knows."""
    cards = {"DATE-OBS": "2022-04-01", "TIME-OBS": "12:00:18", "TELESCOP": "NSO-GONG", "IMTYPE": "MAGNETIC",
             "DTYPE": "OBSERVE", "SEMIDIAM": 4.6e-3, "FNDLMBMI": 4.0, "FNDLMBMA": 4.0,
             "LAT": 0.0, "LON": 0.0, "ELEV": 0.0}  # fmt: skip
    for found in moments(dated(**cards)):
        assert abs((found - NOON).to_value("s")) < 0.01


def test_maps_that_were_made_elsewhere() -> None:
    made = dated(DATE_OBS="2022-04-01", TIME_OBS="12:00:00")
    raw = sunpy.map.Map(np.ones((8, 10)), made)
    noon = sunpy.map.Map(np.ones((8, 10)), dated(**{"DATE-OBS": NOON.isot}))
    assert solar.observation_time(raw).isot == NOON.isot
    q = np.array([[1.0, 2.0], [7.0, 5.0]])
    np.testing.assert_allclose(solar.pixel_mapping(raw, noon, rotation="howard")(q), q, atol=1e-6)


def test_the_zero_of_a_time_axis() -> None:
    axis = {key: value for key, value in TIME_AXIS.items() if key != "DATEREF"}
    apart = dated(**axis | {"DATE-OBS": "2022-04-01", "TIME-OBS": "12:00:00"})
    whole = dated(**axis | {"DATE-OBS": NOON.isot})
    later = solar.column_times(apart, (8, 10)) - solar.column_times(whole, (8, 10))
    np.testing.assert_allclose(later.to_value("s"), 0, atol=1e-6)
    with pytest.raises(DataError, match="time axis has no zero"):
        solar.column_times(dated(**axis | {"DATE-OBS": "2022-04-01"}), (8, 10))
