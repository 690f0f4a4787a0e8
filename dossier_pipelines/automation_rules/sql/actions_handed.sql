-- The actions that the statement of one kind of action carries out now: all it needs to know of them (actions.py).
-- Grain: one row per action.
CREATE TEMPORARY TABLE actions_handed (LIKE acting INCLUDING INDEXES) ON COMMIT DROP
