HISTORY_DAYS = 120


def found_anomalies(series, *, since):
    return []
