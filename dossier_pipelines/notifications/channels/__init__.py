"""The channels that notifications leave by. Each takes one message and says how it ended; none retries by itself."""
