"""From the files of a log to one frame of typed columns, in steps that a file each holds.

files       which files a path names
text        their bytes as UTF-8
tables, json_lines, parquet  a frame lazily, with the columns as they are in the file
lines       the same line by line, for files that those readers cannot read
fields      the columns by role (user, item, time, ..), and a row for each item of a cell
times, ids  typed columns
checks      rows that have no valid id or time: refused, or dropped and counted
log_file    all of this for one file
"""
