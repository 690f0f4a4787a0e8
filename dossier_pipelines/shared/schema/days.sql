-- When a day ends, and which day a moment belongs to, in a time zone: of every desk that keeps a history.

-- The last moment of a day. Where clocks change at midnight it comes twice, or not at all: the first moment of the new
-- day counts. Both functions are inlined where they are used; one that called itself immutable would not be, since adding
-- an interval is not.
CREATE OR REPLACE FUNCTION platform.day_end(day date, timezone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN least(
    CAST(day + 1 AS timestamp) AT TIME ZONE timezone,
    (CAST(day + 1 AS timestamp) - interval '1 hour') AT TIME ZONE timezone + interval '1 hour'
) - interval '1 microsecond';

-- The first day by whose end a moment has come; null for null. In an hour that comes twice before midnight it is not the
-- day that the clock shows.
CREATE OR REPLACE FUNCTION platform.first_day(moment timestamptz, timezone text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST(moment AT TIME ZONE timezone AS date)
    + CASE WHEN moment > platform.day_end(CAST(moment AT TIME ZONE timezone AS date), timezone) THEN 1 ELSE 0 END;
