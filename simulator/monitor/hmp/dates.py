"""Days of the calendar."""

from __future__ import annotations


def date_text(seconds: int) -> str:
    """In universal time, as there is no other here. Years are counted from March, so that the leap day is
    their last."""
    days, rest = divmod(seconds, 86400)
    era, day = divmod(days + 719468, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day_of_month = day_of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year += era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day_of_month:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
