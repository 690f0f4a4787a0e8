-- What people are told of each day: how many records did what, and which (at most 20 of them).
-- Grain: one row of a working table per dossier and day on which something happened.
SELECT f.ordinal, f.day, jsonb_agg(jsonb_build_object(
        'factor', f.happened, 'count', f.amount,
        'text', concat(f.amount, ' ', CASE WHEN f.amount = 1 THEN w.one ELSE w.many END),
        'records', to_jsonb(f.ids[1:20])
    ) ORDER BY w.place) AS factors
FROM (
    SELECT e.ordinal, e.day, e.happened, count(*) AS amount, array_agg(e.id ORDER BY e.id) AS ids
    FROM snapshot_events AS e
    WHERE e.happened IS NOT NULL
    GROUP BY e.ordinal, e.day, e.happened
) AS f
JOIN (VALUES
    (1, 'commitments_overdue', 'commitment became overdue', 'commitments became overdue'),
    (2, 'commitments_no_longer_overdue', 'commitment is no longer overdue', 'commitments are no longer overdue'),
    (3, 'commitments_fulfilled', 'commitment was fulfilled', 'commitments were fulfilled'),
    (4, 'commitments_reopened', 'commitment is no longer fulfilled', 'commitments are no longer fulfilled'),
    (5, 'commitments_added', 'commitment was added', 'commitments were added'),
    (6, 'commitments_gone', 'commitment was cancelled or removed', 'commitments were cancelled or removed'),
    (7, 'engagements_added', 'engagement was added', 'engagements were added'),
    (9, 'engagements_aged', 'engagement is more than 365 days ago now', 'engagements are more than 365 days ago now')
) AS w (place, happened, one, many) ON w.happened = f.happened
GROUP BY f.ordinal, f.day
