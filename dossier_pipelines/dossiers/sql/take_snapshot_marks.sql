-- Begin with the marks that are visible now; what commits later is left for the next time. Grain: one row per mark.
UPDATE dossiers.snapshot_marks SET taken = true WHERE NOT taken
