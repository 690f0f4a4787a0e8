-- Whether any tenant lives in the present; where all clocks stand still no day ever ends. Grain: one row.
SELECT EXISTS (SELECT FROM platform.tenants AS t WHERE t.clock_at IS NULL) AS run
