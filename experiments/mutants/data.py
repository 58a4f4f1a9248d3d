"""Guards of the readers, the known data sets, downloads and the command line's parsing."""

DATA = "hybrid_sim/data"
BAD = ["tests/test_data_bad.py"]
PROTOCOLS = "hybrid_sim/evaluation/protocols.py"
FOREIGN = ["tests/test_data_foreign.py"]
FILES = ["tests/test_data_files.py"]
TABLE = ["tests/test_data_table.py"]
DOWNLOAD = ["tests/test_download.py"]
TMDB = ["tests/test_tmdb.py", "tests/test_data_movielens.py"]
RECORDED = ["tests/test_recorded.py"]
CLI = ["tests/test_cli.py"]
KNOWN = ["tests/test_data_movielens.py", "tests/test_data_other.py"]

MUTANTS = [
    # ratings become a dataset
    (f"{DATA}/ratings.py", "    if not len(table):\n", "    if False:\n", BAD),
    (f"{DATA}/ratings.py", "    if len(unusable):\n", "    if False:\n", BAD),
    (f"{DATA}/ratings.py", "    if len(off_scale):\n", "    if False:\n", BAD),
    (f"{DATA}/times.py", "    if len(refused):\n", "    if False:\n", BAD),
    (f"{DATA}/ratings.py", '    if policy == "error":\n', "    if False:\n", BAD),
    (f"{DATA}/times.py", "    if units[1:].any():\n", "    if False:\n", TABLE),
    (f"{DATA}/times.py", "    if len(late):\n", "    if False:\n", TABLE),
    (f"{DATA}/ratings.py", "    if len(collided):\n", "    if False:\n", TABLE),
    (f"{DATA}/ratings.py", "    if len(unlisted):\n        _log", "    if len(unlisted):\n        id", TABLE),
    (f"{DATA}/ratings.py", 'duplicated(keep="last").to_numpy()', 'duplicated(keep="first").to_numpy()', TABLE),
    (f"{DATA}/times.py", "    if len(zero) and len(others):\n", "    if False:\n", FILES),
    (f"{DATA}/times.py", "        if days.notna().all():\n", "        if False:\n", FILES),
    (f"{DATA}/times.py", "    if (other := _day_and_month_swapped(best)) != best:\n", "    if False:\n", FILES),
    # side information
    (f"{DATA}/tables.py", "    if repeated.any():\n        record", "    if False:\n        record", BAD),
    (f"{DATA}/tables.py", "        repeated = repeated & ~exact\n", "        repeated = repeated & False\n", FILES),
    (f"{DATA}/delimited.py", 'if pc.all(pc.starts_with(column, " ")).as_py() else', "if True else", FILES),
    (f"{DATA}/delimited.py", 'if pc.all(pc.starts_with(column, " ")).as_py() else', "if False else", FILES),
    (f"{DATA}/tables.py", "    return np.where((years >= ", "    return years\n    return np.where((years >= ", FILES),
    (f"{DATA}/ratings.py", '        if policy == "refuse":\n', "        if False:\n", FILES),
    (f"{DATA}/ratings.py", "    if not unrated:\n", "    if True:\n", FOREIGN),
    (f"{DATA}/ratings.py", "    if rounded:\n        n =", "    if False:\n        n =", FOREIGN),
    (f"{DATA}/ratings.py", "    if len(levels) < 3 or (", "    if True or (", FOREIGN),
    (f"{DATA}/ratings.py", "    if len(levels) < 3 or (", "    if False and (", FOREIGN),
    (f"{DATA}/ratings.py", "max(0.1 * len(ratings), 2 * counts[1])", "0", FOREIGN),
    (
        f"{DATA}/ratings.py",
        "    if len(ratings) > 1 and (ratings == ratings[0])",
        "    if False and (ratings == 1)",
        FOREIGN,
    ),
    (f"{DATA}/ratings.py", 'float(f"{level:.6g}")', "level", FOREIGN),
    (f"{DATA}/ratings.py", "if scale is not None and rounded:", "if False:", FOREIGN),
    (f"{DATA}/ratings.py", "(np.abs(ratings) <= LARGEST)", "(np.abs(ratings) < np.inf)", FOREIGN),
    (f"{DATA}/scales.py", " or (len(distinct) > MAX_SPARSE and not _is_dense(distinct))", "", FOREIGN),
    (f"{DATA}/times.py", "    if (units > 0).sum() > 1:\n", "    if False:\n", FOREIGN),
    (f"{DATA}/times.py", "    if (present >= EXCEL[0]).all() and (", "    if False and (", FOREIGN),
    (f"{DATA}/times.py", "    if len(times) > 1 and (times == times[0]).all():\n", "    if False:\n", FOREIGN),
    (f"{DATA}/times.py", "    elif not len(others) and len(times):\n", "    elif False:\n", FOREIGN),
    (
        f"{DATA}/tables.py",
        "    if (most := max(map(len, sets), default=0)) > MAX_MEMBERS:\n",
        "    if False:\n",
        FOREIGN,
    ),
    (f"{DATA}/tables.py", "    if len(others) and is_number.sum() >= len(others):\n", "    if False:\n", FOREIGN),
    (f"{DATA}/decoding.py", "                if left < 0 and compression:\n", "                if False:\n", FOREIGN),
    (f"{DATA}/decoding.py", "                if len(line) == MAX_LINE:\n", "                if False:\n", FOREIGN),
    (f"{DATA}/decoding.py", ' or codec.name in ("punycode", "idna", "undefined")', "", FOREIGN),
    (f"{DATA}/decoding.py", "_CONTROL.search(start) and not _is_utf8(start)", "False", FILES),
    (f"{DATA}/decoding.py", "    if start.count(0) > 0.8 * len(start) or (", "    if (", FOREIGN),
    (f"{DATA}/decoding.py", ' == "[Content_Types].xml" for', ' == "" for', FOREIGN),
    (f"{DATA}/columns.py", "        if path.exists() and not path.is_file():\n", "        if False:\n", FOREIGN),
    (f"{DATA}/columns.py", "        column.validate(full=True)", "        column.validate()", FOREIGN),
    (f"{DATA}/delimited.py", "    if len(given) > len(fields):\n", "    if False:\n", FOREIGN),
    (f"{DATA}/delimited.py", "AS_ROWS if len(names) > WIDE else ", "", FOREIGN),
    (PROTOCOLS, "    if copied.sum() > COPIES * len(copied) and", "    if False and", FOREIGN),
    (PROTOCOLS, "and any(split.uses_test_time for", "and any(False for", FOREIGN),
    ("hybrid_sim/evaluation/bench.py", "        if not results:\n", "        if False:\n", FOREIGN),
    (
        "hybrid_sim/evaluation/bench.py",
        "                except InputError as error:\n",
        "                except ZeroDivisionError as error:\n",
        FOREIGN,
    ),
    (f"{DATA}/tables.py", "        if unread:\n", "        if False:\n", FILES),
    (f"{DATA}/tables.py", "    if column and column != default:\n", "    if False:\n", TABLE),
    (f"{DATA}/tables.py", "(0|[1-9]\\d*)", "(\\d+)", TABLE),
    # values of columns
    (f"{DATA}/columns.py", 'name == "" or "\\0" in name', 'name == ""', BAD),
    (f"{DATA}/columns.py", 'name == "" or "\\0" in name', '"\\0" in name', FOREIGN),
    (f"{DATA}/columns.py", "(codes < 0) | ", "", FOREIGN),
    (
        f"{DATA}/columns.py",
        "        if not (_is_text(values) or is_whole):\n",
        "        if False:\n",
        BAD,
    ),
    (f"{DATA}/columns.py", "        if column not in self.names:\n", "        if False:\n", BAD),
    (f"{DATA}/columns.py", "if values and (column in values or ", "if values and (", FOREIGN),
    (f"{DATA}/columns.py", "values.type != pa.float64():", "False:", FILES),
    # text and its layout
    (f"{DATA}/delimited.py", "        if values_among(layout.names):\n", "        if False:\n", FILES),
    (f"{DATA}/delimited.py", "    if len(set(layout.names)) < len(layout.names):\n", "    if False:\n", BAD),
    (f"{DATA}/delimited.py", "    if record >= 0:\n", "    if False:\n", FILES),
    (
        f"{DATA}/delimited.py",
        "    if _has_open_quote(file):\n",
        "    if False:\n",
        BAD,
    ),
    (f"{DATA}/delimited.py", '            if line.strip(b"\\r\\n"):\n', "            if True:\n", TABLE),
    (
        f"{DATA}/delimited.py",
        "        if layout.quoted:\n            quotes",
        "        if False:\n            quotes",
        TABLE,
    ),
    (f"{DATA}/decoding.py", "    if len(files) != 1:\n", "    if False:\n", FILES),
    (f"{DATA}/decoding.py", "        if stream.peek(3)[:3] == codecs.BOM_UTF8:\n", "        if False:\n", FILES),
    (f"{DATA}/records.py", "    if len(result) < len(pairs):\n", "    if False:\n", FILES),
    (f"{DATA}/records.py", "        if not isinstance(value, dict):\n", "        if False:\n", BAD),
    (f"{DATA}/records.py", "    if len(records) == 1 and (", "    if False and (", FOREIGN),
    # scales
    (f"{DATA}/scales.py", "    if len(distinct) == 1:\n", "    if False:\n", BAD),
    (f"{DATA}/scales.py", "    if n_levels > MAX_LEVELS:\n", "    if False:\n", TABLE),
    (f"{DATA}/scales.py", "    if not number.is_finite() or abs(number.adjusted()) > 12:\n", "    if False:\n", TABLE),
    # known data sets
    (f"{DATA}/sources.py", "    if parts:\n", "    if False:\n", KNOWN),
    (
        f"{DATA}/columns.py",
        "(delimiter is None and holds_records(file))",
        "holds_records(file)",
        ["tests/test_data_files.py"],
    ),
    (f"{DATA}/amazon.py", "    if len(matches) != 1:\n", "    if False:\n", KNOWN),
    (f"{DATA}/amazon.py", '        if not isinstance(record.get("asin"), str):\n', "        if False:\n", KNOWN),
    (f"{DATA}/amazon.py", "    if repeated:\n", "    if False:\n", KNOWN),
    (f"{DATA}/tmdb.py", "        if name in VOTES.values() and not votes:\n", "        if False:\n", TMDB),
    # recorded ratings
    (f"{DATA}/recordings.py", "    if len(refused):\n", "    if False:\n", RECORDED),
    (f"{DATA}/recordings.py", "        if not len(table):\n", "        if False:\n", RECORDED),
    (
        f"{DATA}/recordings.py",
        "    if known.sum() >= 20 and agreed.mean() >= SUSPICIOUS:\n",
        "    if False:\n",
        ["tests/test_bench.py"],
    ),
    # downloads
    (f"{DATA}/download.py", "    if actual != expected.lower():\n", "    if False:\n", DOWNLOAD),
    (
        f"{DATA}/download.py",
        'target.is_absolute() or ".." in target.parts or target.parts[:1] != (name,)',
        "False",
        DOWNLOAD,
    ),
    (f"{DATA}/download.py", "> archive.max_bytes * MAX_EXPANSION:", "< 0:", DOWNLOAD),
    (f"{DATA}/download.py", "    if target.is_dir():\n", "    if False:\n", DOWNLOAD),
    (f"{DATA}/http.py", "            if size > max_bytes:\n", "            if False:\n", DOWNLOAD),
    (f"{DATA}/http.py", "if time.monotonic() - started > deadline:", "if False:", DOWNLOAD),
    (f"{DATA}/http.py", "error.code in (408, 429) or error.code >= 500", "True", DOWNLOAD),
    (f"{DATA}/http.py", "    if size < total:\n", "    if False:\n", DOWNLOAD),
    (f"{DATA}/tmdb_client.py", "        if cached.is_file():\n", "        if False:\n", TMDB),
    (f"{DATA}/tmdb_client.py", '            if "answered 401" in str(error):\n', "            if False:\n", TMDB),
    # the command line
    ("hybrid_sim/cli/parsing.py", "        if unknown:\n", "        if False:\n", CLI),
    ("hybrid_sim/cli/parsing.py", "        if word not in names:\n", "        if False:\n", CLI),
    ("hybrid_sim/cli/terminal.py", "    line = printable(text)\n", "    line = text\n", CLI),
    ("hybrid_sim/cli/terminal.py", "        if text not in self.written:\n", "        if True:\n", CLI),
    (
        "hybrid_sim/cli/data_options.py",
        "    refuse_options(options, [*of_tables, *columns], ",
        "    refuse_options(options, [], ",
        CLI,
    ),
    (
        "hybrid_sim/core/registry.py",
        "            except ImportError as error:\n",
        "            except ZeroDivisionError as error:\n",
        ["tests/test_extending.py"],
    ),
    (f"{DATA}/decoding.py", " and not entry.filename.startswith(of_macos)]", "]", FILES),
]
