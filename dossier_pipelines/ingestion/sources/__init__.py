"""The kinds of source, all read the same way: a stream of rows for an entity, in bounded memory."""
