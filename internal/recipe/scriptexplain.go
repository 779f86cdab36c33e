package recipe

// scriptCauses are the ways in which scripts fail, in the words of shells, of Python
// and of the loader of programs. They are looked for last: their words are short.
func scriptCauses() []cause {
	const begin = "Begin it with #!/bin/bash or #!/usr/bin/env python3, and save it with Unix line ends (dos2unix)."
	return []cause{
		{
			pattern: `(?:([^\s:]+): (?:line )?[0-9]+: [^:]{0,40}(?:: )?)?[^\s:]*\\r['’]*: |\^M`, message: "A script has Windows line ends.",
			hint: "Save it with Unix line ends (dos2unix), and add *.sh text eol=lf to .gitattributes.", better: unixEnds,
		},
		{pattern: `\benv: ['‘"]?([A-Za-z0-9_./+-]+)['’"]?: No such file or directory`, message: "The program {} is not installed, by which a script wants to be run.", hint: "Name the Debian package that has it in apt.txt, or begin the script with #!/bin/bash or #!/usr/bin/env python3.", better: forInterpreter},
		{pattern: `([^\s:]+): cannot execute: required file not found|([^\s:]+): \S+: bad interpreter`, message: "The program is not there that {} names in its first line.", hint: begin},
		{pattern: `(lib[A-Za-z0-9_+.-]+?\.so[.0-9]*): cannot open shared object`, message: "The library {} is missing.", hint: "Name the Debian package that has it in apt.txt.", better: fromDebian},
		{pattern: `ModuleNotFoundError: No module named '([^'.]+)`, message: "The Python module {} is missing.", hint: "Add the package that has it to requirements.txt or environment.yml.", better: moduleFrom},
		{pattern: `(?:^|[\s:])([A-Za-z0-9_./+-]+): (?:command )?not found`, message: "The command {} is not installed.", hint: "Name the Debian package that has it in apt.txt.", better: forCommand},
		{pattern: `: (?:line )?[0-9]+: ((?:\.{1,2}/|` + Home + `/)[^\s:]+): Permission denied`, message: "The script {} is not executable.", hint: "Run it with bash, or make it executable.", better: executable},
		{pattern: `/var/lib/(?:dpkg|apt)/\S+ - open \(13: Permission denied\)|(?i)are you root\?|must be superuser`, message: "Only root may install Debian packages, and builds run as the user jovyan.", hint: "Name the packages in apt.txt, one on each line: they are installed before the script runs."},
		{pattern: `PermissionError: .*?: '(/[^']+)'|['‘]?(/[^\s:'’]+)['’]?: [Pp]ermission denied`, message: "{} may not be written: builds run as the user jovyan, not as root.", hint: "Write below $HOME, and install system packages with apt.txt."},
		{pattern: `(?i)permission denied`, message: "Something may not be written: builds run as the user jovyan, not as root.", hint: "Write below $HOME, and install system packages with apt.txt."},
	}
}

// unixEnds tells which script to save anew.
func unixEnds(name, _ string) string {
	return "Run `dos2unix " + name + "`, and add `" + name + " text eol=lf` to .gitattributes."
}

// forInterpreter tells what runs a script instead.
func forInterpreter(name, _ string) string {
	switch name {
	case "python2", "python2.7":
		return "Debian has no Python 2 any more: begin the script with #!/usr/bin/env python3, or ask for python=2.7 in environment.yml."
	}
	return fromDebian(name, "")
}

// executable tells how to run a script that lacks the permission.
func executable(name, _ string) string {
	return "Run it with `bash " + name + "`, or commit it as a program: `git update-index --chmod=+x " + name + "`."
}
