package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/binnacle-hub/binnacle"
	"github.com/binnacle-hub/binnacle/internal/deploy/backup"
	"github.com/binnacle-hub/binnacle/internal/deploy/config"
)

// The files of a backup beside the hub's own.
const (
	backupFile     = "deployment/binnacle.yaml"
	backupJournal  = "deployment/journal"
	backupSettings = "deployment/settings"
	backupHub      = "hub/"
)

func (d *deployment) backupCommand() *cobra.Command {
	var to, from string
	var without bool
	cmd := &cobra.Command{
		Use: "backup", Short: "Write what can't be made again into one encrypted file, while the hub goes on", Args: cobra.NoArgs,
		Long: "Launches and their logs, records of sessions, the keys of cookies, certificates and the account they\n" +
			"were got with, the settings in use, the deployment's file and its journal. It is encrypted by a\n" +
			"passphrase (age), unless the secrets are left out. Images, caches and running sessions are not in it.",
		Example: "  binnacle deploy backup --output hub.tar --passphrase-from file:/etc/binnacle/passphrase",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withHub(cmd.Context(), false, func(at *place) error { return d.backup(cmd.Context(), at, to, from, !without) })
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", "", "the `file` to write; default is named after the deployment and the time")
	cmd.Flags().StringVar(&from, "passphrase-from", "", "where the passphrase is: env:NAME or file:`PATH`; asked for on a terminal")
	cmd.Flags().BoolVar(&without, "without-secrets", false, "leave out keys, certificates and the environment of launches, and do not encrypt")
	return cmd
}

func (d *deployment) backup(ctx context.Context, at *place, to, from string, secrets bool) error {
	if _, err := at.hub.History(ctx); err != nil {
		return err
	}
	now := time.Now().UTC()
	if to == "" {
		to = at.config.Name + "-" + now.Format("20060102-150405") + ".tar"
	}
	passphrase := ""
	if secrets {
		var err error
		if passphrase, err = d.passphrase(ctx, from, true); err != nil {
			return err
		}
	}
	m := backup.Manifest{Created: now, Version: d.Version, Deployment: at.config.Name, Target: at.config.Target, Secrets: secrets}
	err := backup.Create(to, m, passphrase, 0, func(w *backup.Writer) error {
		if err := d.addDeployment(ctx, at, secrets, w); err != nil {
			return err
		}
		r, sent := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := at.hub.Save(ctx, secrets, sent)
			done <- err
			sent.CloseWithError(err)
		}()
		err := w.AddTar(backupHub, r)
		r.CloseWithError(err) // lets the sender end
		if saved := <-done; saved != nil {
			return saved // the other one follows from it
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "Wrote %s. Keep it elsewhere", to)
	if secrets {
		fmt.Fprint(d.Out, ", and the passphrase apart from it: without that it can't be opened")
	}
	fmt.Fprintln(d.Out, ".")
	return nil
}

// addDeployment adds what is here and not with the hub.
func (d *deployment) addDeployment(ctx context.Context, at *place, secrets bool, w *backup.Writer) error {
	text, err := os.ReadFile(d.file)
	if err != nil {
		return fmt.Errorf("read the deployment's file: %w", err)
	}
	if config.IsImportable(text) { // binderhub-deploy's, which may hold secrets
		if text, err = at.config.Marshal(); err != nil {
			return err
		}
	}
	add := func(name string, b []byte) error { return w.Add(name, int64(len(b)), bytes.NewReader(b)) }
	if err := add(backupFile, text); err != nil {
		return err
	}
	journal, err := os.ReadFile(d.journalFile(at.config.Name))
	if err == nil {
		err = add(backupJournal, journal)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !secrets {
		return nil
	}
	settings, err := at.hub.Settings(ctx)
	if err != nil {
		return err
	}
	return add(backupSettings, settings)
}

// passphrase reads it from where it is, or asks.
func (d *deployment) passphrase(ctx context.Context, from string, twice bool) (string, error) {
	const setting = "--passphrase-from"
	if from != "" {
		s, err := config.Resolve(setting, from, d.Environ)
		return string(s), err
	}
	in, ok := d.In.(*os.File)
	if !d.Terminal || !ok || !term.IsTerminal(int(in.Fd())) {
		return "", &binnacle.Error{
			Code: binnacle.CodeInvalid, Op: "cli.backup", Message: "A passphrase is needed, and nobody can be asked for it here.",
			Hint: "--passphrase-from env:NAME or file:PATH. A backup --without-secrets needs none.",
		}
	}
	ask := func(question string) (string, error) {
		fmt.Fprintf(d.Err, "%s: ", question)
		defer fmt.Fprintln(d.Err)
		shows, err := term.GetState(int(in.Fd()))
		if err != nil {
			return "", err
		}
		text, err := unlessCanceled(ctx, func() (string, error) {
			b, err := term.ReadPassword(int(in.Fd()))
			return string(b), err
		})
		if ctx.Err() != nil { // else what is typed after this is not shown either
			err = errors.Join(err, term.Restore(int(in.Fd()), shows))
		}
		return text, err
	}
	first, err := ask("Passphrase of the backup")
	if err != nil || !twice {
		return first, err
	}
	second, err := ask("Again")
	if err == nil && (first != second || first == "") {
		err = binnacle.Errorf(binnacle.CodeInvalid, "The two are not the same, or empty.")
	}
	return first, err
}

func (d *deployment) restoreCommand() *cobra.Command {
	var from, confirmed, other string
	var v verifying
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Bring back what backup wrote; the hub's present content is replaced", Args: cobra.ExactArgs(1),
		Long: "The whole file is looked through before anything is touched. Where there is no binnacle.yaml, the\n" +
			"one of the backup is written first: on a new place run restore once, then up, then restore.\n" +
			"The hub is started anew and verified.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.restore(cmd.Context(), args[0], from, confirmed, other, v)
		},
	}
	cmd.Flags().StringVar(&from, "passphrase-from", "", "where the passphrase is: env:NAME or file:`PATH`; asked for on a terminal")
	cmd.Flags().StringVar(&confirmed, "confirm", "", "do not ask: the deployment's `name`")
	cmd.Flags().StringVar(&other, "from", "", "the `name` of the deployment that the backup is of, when it is another one")
	v.flags(cmd)
	return cmd
}

func (d *deployment) restore(ctx context.Context, file, from, confirmed, other string, v verifying) error {
	f, err := os.Open(file)
	if err != nil {
		return &binnacle.Error{Code: binnacle.CodeNotFound, Op: "cli.restore", Message: fmt.Sprintf("The file %s can't be read: %v.", file, err), Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := backup.Open(f, info.Size(), func() (string, error) { return d.passphrase(ctx, from, false) })
	if err != nil {
		return err
	}
	m := b.Manifest
	fmt.Fprintf(d.Err, "A backup of %s (target %s) from %s, by version %s.\n", clean(m.Deployment), clean(m.Target), m.Created.UTC().Format(time.RFC3339), clean(m.Version))
	if written, err := d.restoreFile(b); err != nil || written {
		return err
	}
	return d.withHub(ctx, true, func(at *place) error {
		name := at.config.Name
		if m.Deployment != name && m.Deployment != other {
			return &binnacle.Error{
				Code: binnacle.CodeConflict, Op: "cli.restore", Message: fmt.Sprintf("This backup is of the deployment %s, and the file describes %s.", m.Deployment, name),
				Hint: "Name the right file with -f; or, to move it here on purpose, --from " + m.Deployment + ".",
			}
		}
		if confirmed != name {
			if err := d.confirm(ctx, "What the hub has now is replaced.", name); err != nil {
				return err
			}
		}
		r, sent := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := b.Tar(backupHub, sent)
			sent.CloseWithError(err)
			done <- err
		}()
		err := at.hub.Load(ctx, r)
		r.CloseWithError(io.ErrClosedPipe) // lets the sender end
		if sendErr := <-done; err == nil {
			err = sendErr
		}
		if err != nil {
			return err
		}
		if err := at.hub.Await(ctx); err != nil {
			return err
		}
		fmt.Fprintf(d.Out, "Brought back what %s had on %s.\n", clean(m.Deployment), m.Created.UTC().Format(time.RFC3339))
		return d.verify(ctx, at, v)
	})
}

// restoreFile writes the deployment's file where there is none.
func (d *deployment) restoreFile(b *backup.Backup) (written bool, err error) {
	if _, err := os.Stat(d.file); !errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	text, err := b.Read(backupFile)
	if err != nil || len(text) == 0 {
		return false, err
	}
	const readable = 0o644 // it holds no secrets
	if err := os.WriteFile(d.file, text, readable); err != nil {
		return false, fmt.Errorf("write the deployment's file: %w", err)
	}
	fmt.Fprintf(d.Out, "Wrote %s as it was. Next: binnacle deploy up, unless the hub is there; then the same restore again.\n", strings.TrimSpace(d.file))
	return true, nil
}
