package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/binnacle-hub/binnacle"
)

// postgres is what a [Store] on PostgreSQL does otherwise.
type postgres struct {
	cfg *pgx.ConnConfig
	db  *sql.DB
}

// How long a database may be away before callers are told: it is restarted or
// another takes its place meanwhile.
const (
	awayMost  = 2 * time.Minute
	pauseMost = time.Second
	conns     = 16              // of 100 that PostgreSQL has room for by default
	connLife  = 5 * time.Minute // another database may have taken its place
)

// OpenPostgres opens the database at url, like
// postgres://user:password@host:5432/binnacle, and creates or migrates its
// schema as needed; any number of processes may have it open. While the database
// is away callers wait for it, two minutes at most. Returns invalid for a url
// that is none, conflict when the schema is newer than this program, forbidden
// when the database refuses the user, unavailable when it is not there.
//
// Unlike with SQLite every write waits for the database's disk: a database that
// crashes must not forget what the hubs that use it still remember.
func OpenPostgres(ctx context.Context, url string) (*Store, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, &binnacle.Error{ //nolint:gosec // an example, no credentials
			Code: binnacle.CodeInvalid, Op: "store.open", Message: "The address of the database is not one of PostgreSQL.",
			Hint: "Write it like postgres://user:password@host:5432/binnacle, with special characters of the password escaped (%40 for @).",
		} // without the cause, which quotes parts of it
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(connLife)
	s := &Store{durable: db, quick: db, read: db, pg: &postgres{cfg: cfg, db: db}}
	if err := s.migratePostgres(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// postgresMigrations returns the steps from one schema to the next. Steps are
// added, never changed; they are such that a replica of the version before goes
// on working during an upgrade.
func postgresMigrations() []string {
	return []string{
		`CREATE TABLE launches (
			id       TEXT PRIMARY KEY,
			owner    TEXT NOT NULL,
			created  BIGINT NOT NULL,
			final    BIGINT NOT NULL,
			session  TEXT NOT NULL,
			data     BYTEA NOT NULL,
			replica  TEXT NOT NULL,
			epoch    BIGINT NOT NULL,
			canceled BIGINT NOT NULL DEFAULT 0
		);
		CREATE INDEX launches_owner ON launches (owner, created);
		CREATE INDEX launches_created ON launches (created);
		CREATE INDEX launches_open ON launches (created) WHERE final = 0;
		CREATE TABLE bodies (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data BYTEA NOT NULL);
		CREATE TABLE chunks (
			launch TEXT NOT NULL,
			first  BIGINT NOT NULL,
			last   BIGINT NOT NULL,
			body   BIGINT NOT NULL REFERENCES bodies,
			PRIMARY KEY (launch, first)
		);
		CREATE INDEX chunks_body ON chunks (body);
		CREATE TABLE sessions (id TEXT PRIMARY KEY, ended BIGINT NOT NULL, data BYTEA NOT NULL);
		CREATE INDEX sessions_ended ON sessions (ended);
		CREATE TABLE images (name TEXT PRIMARY KEY, environment TEXT NOT NULL, used BIGINT NOT NULL);
		CREATE TABLE environments (hash TEXT PRIMARY KEY, built BIGINT NOT NULL, millis BIGINT NOT NULL, used BIGINT NOT NULL);
		CREATE TABLE pairs (name TEXT PRIMARY KEY, value BYTEA NOT NULL);
		CREATE TABLE replicas (name TEXT PRIMARY KEY, seen BIGINT NOT NULL);
		CREATE TABLE activity (session TEXT PRIMARY KEY, used BIGINT NOT NULL);`,
		`CREATE TABLE files (path TEXT COLLATE "C" PRIMARY KEY, modified BIGINT NOT NULL, data BYTEA NOT NULL);
		CREATE TABLE locks (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until BIGINT NOT NULL);`,
		`CREATE TABLE queues (name TEXT PRIMARY KEY, round BIGINT NOT NULL);
		INSERT INTO queues (name, round) VALUES ('sessions', 0), ('builds', 0);
		CREATE TABLE slots (
			seq     BIGINT GENERATED ALWAYS AS IDENTITY,
			queue   TEXT NOT NULL,
			id      TEXT NOT NULL,
			owner   TEXT NOT NULL,
			repo    TEXT NOT NULL,
			exempt  BIGINT NOT NULL,
			round   BIGINT NOT NULL,
			granted BIGINT NOT NULL,
			replica TEXT NOT NULL,
			PRIMARY KEY (queue, id)
		);
		CREATE INDEX slots_waiting ON slots (queue, round, seq) WHERE granted = 0;
		CREATE INDEX slots_owner ON slots (queue, owner);
		CREATE INDEX slots_repo ON slots (queue, repo);
		CREATE TABLE rates (address TEXT PRIMARY KEY, whole BIGINT NOT NULL);
		CREATE TABLE watched (launch TEXT PRIMARY KEY, seen BIGINT NOT NULL);`,
		`CREATE TABLE builds (key TEXT PRIMARY KEY, launch TEXT NOT NULL, replica TEXT NOT NULL, seen BIGINT NOT NULL, failure TEXT NOT NULL);`,
	}
}

// ahead is how many steps the schema may be ahead of this version, which then works
// on with it: what an upgrade that is rolled back leaves, and what a replica of the
// version before meets that restarts in the middle of one.
const ahead = 1

// migratePostgres brings the schema up to date; replicas that start together
// wait for each other.
func (s *Store) migratePostgres(ctx context.Context) error {
	steps := postgresMigrations()
	return s.update(ctx, s.durable, "migrate", func(ctx context.Context, tx txn) error {
		for _, q := range []string{
			fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", application),
			"CREATE TABLE IF NOT EXISTS binnacle_schema (version BIGINT NOT NULL)",
		} {
			if _, err := tx.exec(ctx, q); err != nil {
				return err
			}
		}
		var version int
		if err := tx.row(ctx, "SELECT coalesce(max(version), 0) FROM binnacle_schema").Scan(&version); err != nil {
			return err
		}
		if version > len(steps)+ahead {
			return &binnacle.Error{
				Code: binnacle.CodeConflict, Op: "store.open",
				Message: fmt.Sprintf("The hub's database was written by a newer version of Binnacle (its schema is %d, this version knows %d).", version, len(steps)),
				Hint:    "Run the newer version, or restore the database from before the upgrade.",
			}
		}
		for i := version; i < len(steps); i++ {
			if _, err := tx.exec(ctx, steps[i]); err != nil {
				return fmt.Errorf("schema %d: %w", i+1, err)
			}
			if _, err := tx.exec(ctx, "INSERT INTO binnacle_schema (version) VALUES (?)", i+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// dollars writes ? and ?1 as $1.
func dollars(query string) string {
	var b strings.Builder
	n := 0
	for i := range len(query) {
		if query[i] != '?' {
			b.WriteByte(query[i])
			continue
		}
		b.WriteByte('$')
		if i+1 < len(query) && query[i+1] >= '0' && query[i+1] <= '9' {
			continue // its number follows
		}
		n++
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// update runs fn in a transaction, again when the connection broke. When it
// broke during the commit the database is asked whether that had been done, so
// that nothing is written twice.
func (p *postgres) update(ctx context.Context, bind func(string) string, fn func(context.Context, txn) error) error {
	var doubtful string // the transaction whose commit was not answered
	return p.retry(ctx, func(ctx context.Context) error {
		if doubtful != "" {
			done, err := p.committed(ctx, doubtful)
			if done || err != nil {
				return err
			}
			doubtful = ""
		}
		ctx = context.WithoutCancel(ctx)
		tx, err := p.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		var id string
		if err := tx.QueryRowContext(ctx, "SELECT pg_current_xact_id()::text").Scan(&id); err != nil {
			return errors.Join(err, rollback(tx))
		}
		if err := fn(ctx, txn{tx, bind}); err != nil {
			return errors.Join(err, rollback(tx))
		}
		if err = tx.Commit(); away(err) {
			doubtful = id
		}
		return err
	})
}

// rollback ends a transaction; on a broken connection there is none any more.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) && !away(err) {
		return err
	}
	return nil
}

// errInProgress: the database has not yet noticed that the connection broke.
var errInProgress = errors.New("transaction is in progress")

func (p *postgres) committed(ctx context.Context, id string) (bool, error) {
	var status sql.NullString
	err := p.db.QueryRowContext(ctx, "SELECT pg_xact_status($1::text::xid8)", id).Scan(&status)
	var e *pgconn.PgError
	if errors.As(err, &e) && !away(err) {
		return false, nil // in the future: another database took its place, and never saw it
	}
	if err == nil && status.String == "in progress" {
		err = errInProgress
	}
	return err == nil && status.String == "committed", err
}

// retry calls f until it is not the database being away that fails it.
func (p *postgres) retry(ctx context.Context, f func(context.Context) error) error {
	end := time.Now().Add(awayMost)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, pauseMost) {
		err := f(ctx)
		if !away(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// away says whether an error is of the connection or of a database that is going
// or coming, and not of what was asked.
func away(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Connections, resources, operator's intervention, transactions that met
		// others or a database that only reads.
		return slices.Contains([]string{"08", "53", "57"}, e.Code[:min(2, len(e.Code))]) || slices.Contains([]string{"40001", "40P01", "25006"}, e.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, errInProgress) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// fail says what an error means to the operator.
func (p *postgres) fail(op string, err error) error {
	if _, ok := errors.AsType[*TakenError](err); ok {
		return err
	}
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e) && (strings.HasPrefix(e.Code, "28") || e.Code == "3D000" || e.Code == "42501"):
		return &binnacle.Error{
			Code: binnacle.CodeForbidden, Op: op, Message: "The hub's database refuses the hub.", Err: err,
			Hint: "Check user, password and name of the database in its address, and that the user may create tables in it.",
		}
	case errors.As(err, &e) && e.Code == "53100":
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: op, Message: "The disk of the hub's database is full.", Err: err,
			Hint: "The operator can give it more space, or keep fewer launches (launch.keep_launches).",
		}
	case away(err):
		return &binnacle.Error{
			Code: binnacle.CodeUnavailable, Op: op, Message: "The hub's database cannot be reached.", Err: err,
			Hint: "Try again in a minute. The operator can check that PostgreSQL runs and that the hub may connect to it.",
		}
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
}

// listen calls f with what is told on the channel until ctx ends, and with
// nothing each time after it could not listen for a while.
func (p *postgres) listen(ctx context.Context, f func(word string)) error {
	for {
		err := p.listenOnce(ctx, f)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ending is no failure
		}
		if !away(err) {
			return p.fail("store.listen", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pauseMost):
		}
	}
}

func (p *postgres) listenOnce(ctx context.Context, f func(word string)) (err error) {
	conn, err := pgx.ConnectConfig(ctx, p.cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseMost)
		defer cancel()
		_ = conn.Close(ctx) // it is broken, or the database ends it
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	f("")
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		f(n.Payload)
	}
}
