"""What a cluster holds, as a file, and back: in KWOK's form (documents of YAML) and in full (lines of JSON)."""
