package recipe

import (
	_ "embed"
	"regexp"
	"slices"
	"strings"
)

// wellKnown are names of Python packages, and what stands for them.
//
//go:embed names.txt
var wellKnown string

// pythonNames suggests packages that may be meant by a name that the index does
// not have, at most three; none when nothing is like it.
func pythonNames(name string) []string {
	want := canonical(name)
	type found struct {
		name string
		far  int
	}
	var near []found
	add := func(name string, far int) {
		if name != want && !slices.ContainsFunc(near, func(f found) bool { return f.name == name }) {
			near = append(near, found{name, far})
		}
	}
	squeeze := strings.NewReplacer("-", "")
	for line := range strings.Lines(wellKnown) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for word := range strings.FieldsSeq(line) {
			instead, meant, ok := strings.Cut(word, "=")
			if ok {
				if canonical(instead) == want {
					return []string{meant}
				}
				continue
			}
			most := 1
			if len(want) > 5 {
				most = 2
			}
			switch far := edits(want, word, most); {
			case squeeze.Replace(want) == squeeze.Replace(word), want == "python-"+word, want == "py"+word, want == word+"-python":
				add(word, 0)
			case far <= most && len(want) > 3:
				add(word, far)
			}
		}
	}
	slices.SortStableFunc(near, func(a, b found) int { return a.far - b.far })
	const most = 3
	var out []string
	for _, f := range near {
		if len(out) < most && f.far == near[0].far {
			out = append(out, f.name)
		}
	}
	return out
}

// edits is how many letters must be changed, added, left out or swapped with
// their neighbour to make b of a; more than most when that is far.
func edits(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// debianFor is the package of Debian that has a header, a library or a command,
// as far as they are known to be asked for; empty when not.
func debianFor(what string) string {
	name := strings.ToLower(what)
	if p, ok := debianFiles()[name]; ok {
		return p
	}
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name, '/') {
		name = name[:i] // GL/gl.h, spatialindex/capi/sidx_api.h
		if p, ok := debianFiles()[name+"/"]; ok {
			return p
		}
	}
	return ""
}

func debianFiles() map[string]string {
	return map[string]string{
		// headers
		"python.h": "python3-dev", "lber.h": "libldap-dev", "ldap.h": "libldap-dev", "sasl.h": "libsasl2-dev", "sasl/": "libsasl2-dev",
		"libpq-fe.h": "libpq-dev", "mysql.h": "default-libmysqlclient-dev", "my_config.h": "default-libmysqlclient-dev", "sql.h": "unixodbc-dev", "sqlext.h": "unixodbc-dev",
		"ffi.h": "libffi-dev", "openssl/": "libssl-dev", "zlib.h": "zlib1g-dev", "bzlib.h": "libbz2-dev", "lzma.h": "liblzma-dev", "zmq.h": "libzmq3-dev",
		"libxml/": "libxml2-dev", "libxslt/": "libxslt1-dev", "curl/": "libcurl4-openssl-dev", "yaml.h": "libyaml-dev", "expat.h": "libexpat1-dev",
		"jpeglib.h": "libjpeg-dev", "png.h": "libpng-dev", "tiff.h": "libtiff-dev", "tiffio.h": "libtiff-dev", "ft2build.h": "libfreetype-dev", "cairo.h": "libcairo2-dev", "cairo/": "libcairo2-dev",
		"gdal.h": "libgdal-dev", "cpl_port.h": "libgdal-dev", "geos_c.h": "libgeos-dev", "proj.h": "libproj-dev", "spatialindex/": "libspatialindex-dev",
		"hdf5.h": "libhdf5-dev", "netcdf.h": "libnetcdf-dev", "fftw3.h": "libfftw3-dev", "gsl/": "libgsl-dev", "gmp.h": "libgmp-dev", "mpfr.h": "libmpfr-dev", "mpc.h": "libmpc-dev",
		"cblas.h": "libopenblas-dev", "lapacke.h": "libopenblas-dev", "eigen/": "libeigen3-dev", "eigen3/eigen/": "libeigen3-dev", "boost/": "libboost-dev", "suitesparse/": "libsuitesparse-dev",
		"mpi.h": "libopenmpi-dev", "gl/": "libgl-dev", "gl.h": "libgl-dev", "portaudio.h": "portaudio19-dev", "sndfile.h": "libsndfile1-dev", "graphviz/": "libgraphviz-dev", "cgraph.h": "libgraphviz-dev",
		"db.h": "libdb-dev", "readline/": "libreadline-dev", "ncurses.h": "libncurses-dev", "curses.h": "libncurses-dev", "sqlite3.h": "libsqlite3-dev", "uuid/": "uuid-dev", "krb5.h": "libkrb5-dev", "gssapi/": "libkrb5-dev",
		// libraries
		"libgl.so.1": "libgl1", "libegl.so.1": "libegl1", "libglib-2.0.so.0": "libglib2.0-0t64", "libgthread-2.0.so.0": "libglib2.0-0t64", "libsm.so.6": "libsm6", "libxext.so.6": "libxext6",
		"libxrender.so.1": "libxrender1", "libgomp.so.1": "libgomp1", "libsndfile.so.1": "libsndfile1", "libportaudio.so.2": "libportaudio2", "libspatialindex_c.so": "libspatialindex-dev",
		"libcairo.so.2": "libcairo2", "libpango-1.0.so.0": "libpango-1.0-0", "libmagic.so.1": "libmagic1t64", "libtiff.so.6": "libtiff6", "libgdal.so": "libgdal-dev", "libpq.so.5": "libpq5", "libglu.so.1": "libglu1-mesa",
		// commands
		"gcc": "build-essential", "g++": "build-essential", "cc": "build-essential", "c++": "build-essential", "make": "build-essential", "cmake": "cmake", "ninja": "ninja-build", "gfortran": "gfortran",
		"rustc": "rustc", "cargo": "cargo", "swig": "swig", "pg_config": "libpq-dev", "mysql_config": "default-libmysqlclient-dev", "pkg-config": "pkg-config", "pkgconf": "pkgconf", "gdal-config": "libgdal-dev", "nc-config": "libnetcdf-dev", "mpicc": "libopenmpi-dev", "llvm-config": "llvm-dev",
		"pdflatex": "texlive-latex-recommended", "xelatex": "texlive-xetex", "latexmk": "latexmk", "pandoc": "pandoc", "convert": "imagemagick", "ffmpeg": "ffmpeg", "java": "default-jre", "javac": "default-jdk", "dot": "graphviz",
		"rscript": "r-base-core", "octave": "octave", "gnuplot": "gnuplot", "rsync": "rsync", "jq": "jq", "zip": "zip", "7z": "p7zip-full", "svn": "subversion", "hg": "mercurial", "git-lfs": "git-lfs", "xvfb-run": "xvfb", "inkscape": "inkscape", "gs": "ghostscript", "tesseract": "tesseract-ocr", "vim": "vim", "nano": "nano", "tree": "tree", "ssh": "openssh-client", "ping": "iputils-ping", "sqlite3": "sqlite3", "psql": "postgresql-client",
	}
}

// debianNames are what packages of other releases, or of Ubuntu, are called now.
func debianNames(name string) string {
	return map[string]string{
		"libgl1-mesa-glx": "libgl1", "python": "python3", "python-dev": "python3-dev", "python-pip": "python3-pip", "python3-distutils": "python3-setuptools", "libjpeg8": "libjpeg62-turbo", "libjpeg8-dev": "libjpeg-dev", "libjpeg-turbo8-dev": "libjpeg-dev",
		"libpng12-dev": "libpng-dev", "libmysqlclient-dev": "default-libmysqlclient-dev", "mysql-client": "default-mysql-client", "netcat": "netcat-openbsd", "openjdk-8-jdk": "default-jdk", "openjdk-11-jdk": "default-jdk", "openjdk-8-jre": "default-jre", "openjdk-11-jre": "default-jre",
		"libav-tools": "ffmpeg", "texlive-generic-recommended": "texlive-plain-generic", "ttf-mscorefonts-installer": "fonts-liberation", "libtiff5": "libtiff6", "libtiff5-dev": "libtiff-dev", "libssl1.1": "libssl3t64", "libssl3": "libssl3t64", "libglib2.0-0": "libglib2.0-0t64", "libasound2": "libasound2t64",
		"libgtk-3-0": "libgtk-3-0t64", "libfreetype6-dev": "libfreetype-dev", "libncurses5-dev": "libncurses-dev", "libgdal-dev-py": "libgdal-dev", "libreadline6-dev": "libreadline-dev", "libwebkitgtk-1.0-0": "libwebkit2gtk-4.1-0", "firefox": "firefox-esr", "chromium-browser": "chromium", "software-properties-common": "gnupg", "libatlas-base-dev": "libopenblas-dev", "libicu-dev-60": "libicu-dev",
	}[strings.ToLower(name)]
}

// offered are the versions that a step said there are of a package; empty when it
// said none.
func offered(flat, name string) string {
	m := regexp.MustCompile(`binnacle: versions of ` + regexp.QuoteMeta(name) + `: ([0-9][0-9A-Za-z.+!, -]*[0-9A-Za-z])`).FindStringSubmatch(flat)
	if m == nil {
		return ""
	}
	all := strings.Split(m[1], ", ")
	const most = 8
	if len(all) > most {
		all = append(all[:most:most], "…")
	}
	return strings.Join(all, ", ")
}
