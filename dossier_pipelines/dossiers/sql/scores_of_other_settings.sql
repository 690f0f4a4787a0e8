-- Scores of another configuration than the one in force. Grain: one row. Reads health_scores once.
SELECT count(*) AS violations, (array_agg(s.dossier_id))[1:20] AS examples
FROM dossiers.health_scores AS s
WHERE s.settings_version <> :version
