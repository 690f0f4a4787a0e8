-- Delete the marks that were taken; those that came since stay. Grain: one row per mark.
DELETE FROM dossiers.snapshot_marks WHERE taken
