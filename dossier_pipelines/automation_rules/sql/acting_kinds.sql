-- Which kinds of actions are to be carried out, at which depth. Grain: one row per kind and depth.
SELECT DISTINCT a.action, a.depth FROM acting AS a ORDER BY a.action, a.depth
