-- Take the marks that are visible now: they are settled once their days are taken anew; what is marked later waits for the
-- next restating. Grain: one row per mark. Reads the marks, which are few: restating takes them away.
UPDATE litigation.metric_marks SET taken = true WHERE NOT taken
