"""Something to edit: a link with urlpath=vscode opens it in VS Code."""

HOURS = 24

if __name__ == "__main__":
    print(f"{HOURS / 12.42:.2f} tides in {HOURS} hours")
