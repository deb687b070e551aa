"""What a run under faults leaves behind, and who judges it: histories, checkers, and the proxy that makes the faults."""
