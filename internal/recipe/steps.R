# What the steps of a build do in R. Only R's own packages are used.
#
#   run FILE NAME   runs a script of the repository, which it calls NAME
#   lock DIR        installs all packages of a repository in a directory
#   package DIR     installs the package whose source is there
#   freeze DATE     writes down what is installed
local({
  lib <- Sys.getenv("R_LIBS_USER")
  store <- Sys.getenv("BINNACLE_STORE")
  fail <- function(...) {
    message("R: ", ...)
    quit(save = "no", status = 1)
  }
  options(warn = 1, useFancyQuotes = FALSE, Ncpus = max(1L, min(4L, parallel::detectCores())), timeout = 600)
  .libPaths(c(lib, .libPaths()))

  # R only warns when a package could not be installed. Here it stops, unless the
  # script catches it.
  original <- utils::install.packages
  checked <- function(...) {
    said <- character()
    withCallingHandlers(original(...), warning = function(w) {
      said <<- c(said, conditionMessage(w))
    })
    given <- list(...)
    names <- names(given)
    pkgs <- if ("pkgs" %in% names) given[["pkgs"]] else if (length(given) && (is.null(names) || names[[1]] == "")) given[[1]]
    files <- "repos" %in% names && is.null(given[["repos"]])
    absent <- character()
    if (is.character(pkgs) && !files) {
      pkgs <- pkgs[!grepl("[/\\\\]|\\.tar\\.gz$", pkgs)]
      absent <- pkgs[!nzchar(vapply(pkgs, function(p) system.file(package = p, lib.loc = c(given[["lib"]], .libPaths())), ""))]
    }
    bad <- grepl("not available|non-zero exit status|download of package .* failed", said)
    if (any(bad) || length(absent)) {
      why <- said[bad | grepl("unable to access index|cannot open|incomplete", said)]
      # What R tries first need not be there, and its advice is for R's developers.
      why <- sub("A version of this package for your version of R.*", "", why[!grepl("PACKAGES.rds", why, fixed = TRUE)])
      why <- unique(trimws(gsub("[[:space:]]+", " ", why)))
      stop("install.packages() could not install ", paste(if (length(absent)) absent else pkgs, collapse = ", "),
        if (length(why)) paste0(": ", paste(why, collapse = "; ")), call. = FALSE)
    }
    invisible()
  }
  replace <- function(env) {
    if (bindingIsLocked("install.packages", env)) unlockBinding("install.packages", env)
    assign("install.packages", checked, envir = env)
  }
  replace(asNamespace("utils"))
  replace(as.environment("package:utils"))

  run <- function(file, name) {
    script <- tryCatch(parse(file, keep.source = TRUE, encoding = "UTF-8"), error = function(e) {
      fail(gsub(file, name, conditionMessage(e), fixed = TRUE))
    })
    refs <- attr(script, "srcref")
    for (i in seq_along(script)) {
      withCallingHandlers({
        value <- withVisible(eval(script[[i]], globalenv()))
        if (value$visible) print(value$value)
      }, error = function(e) {
        fail(name, ":", refs[[i]][[1]], ": ", conditionMessage(e))
      })
    }
  }

  text <- function(x) {
    x <- enc2utf8(gsub("[[:cntrl:]]+", " ", x))
    paste0("\"", gsub("([\"\\\\])", "\\\\\\1", x), "\"")
  }
  # What a package needs, as its DESCRIPTION names it in several fields.
  needs <- function(fields) {
    all <- unlist(strsplit(fields[!is.na(fields)], ",", fixed = TRUE))
    sort(unique(trimws(sub("\\(.*", "", all))), method = "radix")
  }
  # renv's own format, for people to commit.
  freeze <- function(date) {
    more <- c("Repository", "RemoteType", "RemoteHost", "RemoteUsername", "RemoteRepo", "RemoteRef", "RemoteSha", "biocViews")
    have <- installed.packages(lib, noCache = TRUE, fields = more)
    hashes <- c()
    at <- file.path(Sys.getenv("BINNACLE_LOCK"), "src", "contrib", "PACKAGES")
    if (file.exists(at)) {
      known <- read.dcf(at, c("Package", "Version", "SHA256"))
      hashes <- structure(known[, "SHA256"], names = paste(known[, "Package"], known[, "Version"]))
    }
    entries <- vapply(sort(rownames(have), method = "radix"), function(p) {
      row <- have[p, ]
      source <- if (!is.na(row[["RemoteSha"]])) "GitHub" else if (!is.na(row[["Repository"]])) "Repository" else if (!is.na(row[["biocViews"]])) "Bioconductor" else "unknown"
      if (source == "GitHub" && !is.na(row[["RemoteType"]])) source <- c(github = "GitHub", gitlab = "GitLab")[row[["RemoteType"]]]
      if (is.na(source)) source <- "Remote"
      fields <- c(Package = p, Version = row[["Version"]], Source = unname(source))
      shown <- if (source == "Repository") "Repository" else grep("^Remote", more, value = TRUE)
      fields <- c(fields, row[shown][!is.na(row[shown])])
      hash <- hashes[paste(p, row[["Version"]])]
      if (length(hash) && !is.na(hash)) fields <- c(fields, SHA256 = unname(hash))
      lines <- paste0("      ", text(names(fields)), ": ", text(fields))
      required <- needs(row[c("Depends", "Imports", "LinkingTo")])
      if (length(required)) lines <- c(lines, paste0("      \"Requirements\": [", paste(text(required), collapse = ", "), "]"))
      paste0("    ", text(p), ": {\n", paste(lines, collapse = ",\n"), "\n    }")
    }, "")
    lines <- c("{", "  \"R\": {", paste0("    \"Version\": ", text(as.character(getRversion())), ","),
      "    \"Repositories\": [", paste0("      {\"Name\": \"CRAN\", \"URL\": ", text(paste0("https://packagemanager.posit.co/cran/", date)), "}"), "    ]", "  },",
      if (length(entries)) c("  \"Packages\": {", paste(entries, collapse = ",\n"), "  }") else "  \"Packages\": {}", "}")
    writeLines(lines, file.path(store, "renv.lock"), useBytes = TRUE)
  }

  lock <- function(dir) {
    repos <- paste0("file://", dir)
    packages <- read.dcf(file.path(dir, "src", "contrib", "PACKAGES"), "Package")[, 1]
    if (length(packages)) utils::install.packages(packages, lib = lib, repos = repos, dependencies = FALSE, type = "source")
  }

  package <- function(dir) {
    work <- tempfile("package")
    dir.create(work)
    r <- file.path(R.home("bin"), "R")
    home <- setwd(work)
    if (system2(r, c("CMD", "build", "--no-build-vignettes", "--no-manual", "--no-resave-data", shQuote(dir)))) fail("the package of this repository could not be built")
    file <- list.files(work, "\\.tar\\.gz$")
    if (system2(r, c("CMD", "INSTALL", paste0("--library=", shQuote(lib)), shQuote(file[[1]])))) fail("the package of this repository could not be installed")
    setwd(home)
    unlink(work, recursive = TRUE)
  }

  args <- commandArgs(TRUE)
  tryCatch(switch(args[[1]], run = run(args[[2]], args[[3]]), lock = lock(args[[2]]), package = package(args[[2]]), freeze = freeze(args[[2]])),
    error = function(e) fail(conditionMessage(e)))
})
