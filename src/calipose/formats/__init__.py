"""The formats that poses are written in: one module a format, and one row of `calipose.formats.table.FORMATS` each.

A new format needs a module with a `write_...` function like those of its neighbours, and a row in the table. The
row puts it into `calipose predict --save`, its help, its error messages and the output folder; tests ask for its row
in docs/predict.md.
"""
