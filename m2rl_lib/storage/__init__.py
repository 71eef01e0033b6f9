"""What a study leaves on disk, atomic, locked and checked: models, tables, records of stages, Hub files."""
