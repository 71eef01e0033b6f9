"""What a study leaves on disk, atomic, locked and checked: models, tables, records of stages, Hub files.

Notebooks call `artifacts` (`is_done`, `finish`, `verify_model`), `result_tables` (`read_table`, `write_table`,
`write_headline`) and no other module of it. `checkpoints` reads any checkpoint piece by piece, `hub` fetches files at a
commit, `safety` refuses foreign code and finds secrets.
"""
