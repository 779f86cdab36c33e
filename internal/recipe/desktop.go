package recipe

import _ "embed"

// desktopLock pins jupyter-remote-desktop-proxy, which shows a VNC server's
// screen in the browser and starts it through jupyter-server-proxy.
//
//go:embed desktop.txt
var desktopLock []byte

// desktop is a Linux desktop: Debian's TigerVNC and a small Xfce. The program
// and its WebSocket listen on a unix socket.
func desktop() program {
	return program{
		name: "desktop", title: "Desktop", theirs: []string{"jupyter-remote-desktop-proxy", "jupyter-desktop-server"},
		install: func(r *reader) error {
			r.joinJupyter("jupyter-server-proxy", "proxy.txt", proxyLock)
			r.joinJupyter("jupyter-remote-desktop-proxy", "desktop.txt", desktopLock)
			names := []string{
				"dbus-x11", "fonts-dejavu-core", "tigervnc-standalone-server", "tigervnc-tools", "x11-xserver-utils", "xauth", "xfce4-panel", "xfce4-session",
				"xfce4-settings", "xfce4-terminal", "xfconf", "xfdesktop4", "xfwm4", "xkb-data", "thunar", "adwaita-icon-theme",
			}
			step := aptStep("apt: desktop", names)
			for _, name := range names {
				step.Packages = append(step.Packages, Package{Manager: "apt", Name: name, Spec: name})
			}
			r.add(step)
			return nil
		},
	}
}
