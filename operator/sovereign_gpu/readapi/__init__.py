"""The read-only API behind the commands `why`, `queue`, `top` and `nodes`: each sees their own."""
