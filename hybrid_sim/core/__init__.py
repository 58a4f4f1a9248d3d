"""The types of the domain and what every part needs: data, distributions, raters, files, settings, errors."""
