package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/binnacle-hub/binnacle"
)

// The form of what [Store.Export] writes: lines of JSON, a header, rows, an end
// that counts them. SQLite and PostgreSQL write the same.
const (
	portableName   = "binnacle-store"
	portableFormat = 1
)

// portableTable is a table that a backup has.
type portableTable struct {
	name string
	// columns and their kinds: t for text, i for integers, b for bytes.
	columns, kinds []string
	// secret ones are left out where secrets are.
	secret bool
}

// portableTables are what must survive, in the order they are written in. Who
// drives a launch, and who has a lock, belongs to processes and is not among it.
func portableTables() []portableTable {
	t := func(name string, secret bool, columns ...string) portableTable {
		p := portableTable{name: name, secret: secret}
		for _, c := range columns {
			kind, column, _ := strings.Cut(c, ":")
			p.kinds, p.columns = append(p.kinds, kind), append(p.columns, column)
		}
		return p
	}
	return []portableTable{
		t("launches", false, "t:id", "t:owner", "i:created", "i:final", "t:session", "b:data", "i:epoch", "i:canceled"),
		t("bodies", false, "i:id", "b:data"),
		t("chunks", false, "t:launch", "i:first", "i:last", "i:body"),
		t("sessions", false, "t:id", "i:ended", "b:data"),
		t("images", false, "t:name", "t:environment", "i:used"),
		t("environments", false, "t:hash", "i:built", "i:millis", "i:used"),
		t("activity", false, "t:session", "i:used"),
		t("pairs", true, "t:name", "b:value"),
		t("files", true, "t:path", "i:modified", "b:data"),
	}
}

// portableLine is a line of an export: exactly one of its parts.
type portableLine struct {
	Store  string            `json:"store,omitempty"` // the header
	Format int               `json:"format,omitempty"`
	Table  string            `json:"table,omitempty"` // a row
	Row    []json.RawMessage `json:"row,omitempty"`
	End    *int              `json:"end,omitempty"` // how many rows there were
}

// Export writes everything that must survive, as it is at one moment, while
// others go on writing. Without secrets it leaves out keys, certificates and the
// environment that launches were asked with.
func (s *Store) Export(ctx context.Context, w io.Writer, secrets bool) error {
	begin := "BEGIN"
	if s.pg != nil {
		begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return s.fail("export", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return s.fail("export", err)
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") }() // it only read
	enc := json.NewEncoder(w)
	if err := enc.Encode(portableLine{Store: portableName, Format: portableFormat}); err != nil {
		return err
	}
	n := 0
	for _, t := range portableTables() {
		if t.secret && !secrets {
			continue
		}
		rows, err := s.exportTable(ctx, conn, t, secrets, enc)
		if err != nil {
			return s.fail("export", fmt.Errorf("table %s: %w", t.name, err))
		}
		n += rows
	}
	return enc.Encode(portableLine{End: &n})
}

func (s *Store) exportTable(ctx context.Context, conn *sql.Conn, t portableTable, secrets bool, enc *json.Encoder) (n int, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT "+strings.Join(t.columns, ", ")+" FROM "+t.name) //nolint:gosec // the names are ours
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		into := make([]any, len(t.kinds))
		for i, k := range t.kinds {
			into[i] = map[string]func() any{"t": func() any { return new(string) }, "i": func() any { return new(int64) }, "b": func() any { return new([]byte) }}[k]()
		}
		if err := rows.Scan(into...); err != nil {
			return n, err
		}
		line := portableLine{Table: t.name}
		for i, v := range into {
			if data, ok := v.(*[]byte); ok && t.name == "launches" && !secrets {
				if *data, err = withoutEnv(*data); err != nil {
					return n, err
				}
				v = data
			}
			if data, ok := v.(*[]byte); ok && *data == nil {
				*data = []byte{}
			}
			b, err := json.Marshal(v)
			if err != nil {
				return n, fmt.Errorf("column %s: %w", t.columns[i], err)
			}
			line.Row = append(line.Row, b)
		}
		if err := enc.Encode(line); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

// withoutEnv takes the environment that a launch was asked with out of it.
func withoutEnv(data []byte) ([]byte, error) {
	var l Launch
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("launch: %w", err)
	}
	l.Request.Env = nil
	return json.Marshal(l)
}

// row is one of an export, read back.
type row struct {
	table portableTable
	into  []any
}

// CheckExport reads an export to its end. Returns invalid when it is not one or
// is damaged, conflict when a newer version wrote it.
func CheckExport(r io.Reader) error { return readExport(r, func(row) error { return nil }) }

// readExport calls f with every row, those of secret tables too.
func readExport(r io.Reader, f func(row) error) error {
	damaged := func(err error) error {
		return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "store.import", Message: "The copy of the hub's database is damaged.", Hint: "Take another backup.", Err: err}
	}
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var head portableLine
	if err := dec.Decode(&head); err != nil || head.Store != portableName || head.Format < 1 {
		return damaged(err)
	}
	if head.Format > portableFormat {
		return &binnacle.Error{
			Code: binnacle.CodeConflict, Op: "store.import", Message: "The copy of the hub's database was written by a newer version of Binnacle.", Hint: "Restore it with that version.",
		}
	}
	tables := portableTables()
	for n := 0; ; n++ {
		var line portableLine
		if err := dec.Decode(&line); err != nil {
			return damaged(err)
		}
		if line.End != nil {
			if *line.End != n || line.Table != "" || dec.More() {
				return damaged(fmt.Errorf("it says %d rows, and has %d", *line.End, n))
			}
			return nil
		}
		i := slices.IndexFunc(tables, func(t portableTable) bool { return t.name == line.Table })
		if i < 0 || len(line.Row) != len(tables[i].columns) {
			return damaged(fmt.Errorf("row %d is of the table %q", n, line.Table))
		}
		one := row{table: tables[i]}
		for c, kind := range one.table.kinds {
			var err error
			var v any
			switch kind {
			case "t":
				v, err = decode[string](line.Row[c])
			case "i":
				v, err = decode[int64](line.Row[c])
			default:
				v, err = decode[[]byte](line.Row[c])
			}
			if err != nil {
				return damaged(fmt.Errorf("row %d: %w", n, err))
			}
			one.into = append(one.into, v)
		}
		if err := f(one); err != nil {
			return err
		}
	}
}

// decode reads a value that must be there.
func decode[T any](b json.RawMessage) (T, error) {
	var v *T
	if err := json.Unmarshal(b, &v); err != nil {
		return *new(T), err
	}
	if v == nil {
		return *new(T), errors.New("a value is missing")
	}
	return *v, nil
}

// Import replaces what the store has with an export, all or nothing. Keys and
// certificates stay as they are when the export has none. Other processes on
// the same database must be started anew: they remember what was.
// Returns what [CheckExport] returns before anything is changed.
func (s *Store) Import(ctx context.Context, r io.ReadSeeker) error {
	has := map[string]bool{}
	if err := again(r, func(one row) error { has[one.table.name] = true; return nil }); err != nil {
		return err
	}
	return s.update(ctx, s.durable, "import", func(ctx context.Context, tx txn) error {
		for _, t := range slices.Backward(portableTables()) { // bodies after the chunks that name them
			if t.secret && !has[t.name] {
				continue
			}
			if _, err := tx.exec(ctx, "DELETE FROM "+t.name); err != nil {
				return err
			}
		}
		bodies := map[int64]int64{} // numbers are never used twice, so they are given anew
		return again(r, func(one row) error { return importRow(ctx, tx, one, bodies) })
	})
}

func again(r io.ReadSeeker, f func(row) error) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the copy: %w", err)
	}
	return readExport(r, f)
}

func importRow(ctx context.Context, tx txn, one row, bodies map[int64]int64) error {
	columns := slices.Clone(one.table.columns)
	switch one.table.name {
	case "bodies":
		old, _ := one.into[0].(int64)
		var id int64
		if err := tx.row(ctx, "INSERT INTO bodies (data) VALUES (?) RETURNING id", one.into[1]).Scan(&id); err != nil {
			return err
		}
		bodies[old] = id
		return nil
	case "chunks":
		old, _ := one.into[3].(int64)
		id, ok := bodies[old]
		if !ok {
			return &binnacle.Error{Code: binnacle.CodeInvalid, Op: "store.import", Message: "The copy of the hub's database is damaged: a part of a log is missing.", Hint: "Take another backup."}
		}
		one.into[3] = id
	case "launches":
		// Nobody drives it yet.
		columns, one.into = append(columns, "replica"), append(one.into, "")
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ")
	_, err := tx.exec(ctx, "INSERT INTO "+one.table.name+" ("+strings.Join(columns, ", ")+") VALUES ("+marks+")", one.into...)
	return err
}
