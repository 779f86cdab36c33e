# Stands in for the script that renv writes here: unless it is switched off, that one replaces the
# library by an empty one and fetches renv from the network.
if (!identical(Sys.getenv("RENV_CONFIG_AUTOLOADER_ENABLED"), "FALSE")) stop("renv would hide the packages")
