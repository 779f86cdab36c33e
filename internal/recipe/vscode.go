package recipe

func vscode() program {
	return program{name: "vscode", title: "VS Code", theirs: []string{"jupyter-vscode-proxy", "jupyter-codeserver-proxy"}}
}
