package credential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// maxUsersBytes is the largest size of a users file, about half a million users.
const maxUsersBytes = 64 << 20

// checkFileName returns an error if a users file cannot contain the name.
func checkFileName(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, "#") {
		return errors.New("begins with #, as comments do")
	}
	if strings.Contains(name, ":") {
		return errors.New("contains a colon, which ends a name in the users file")
	}
	return nil
}

// parseUsers parses lines of the form name:hash. It ignores empty lines and lines that
// begin with #. An error quotes the name in a line, and nothing else of the line.
func parseUsers(file []byte) (map[string]hashed, error) {
	users := make(map[string]hashed)
	number := 0
	for line := range bytes.Lines(file) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		name, hash, found := strings.Cut(text, ":")
		if !found {
			return nil, fmt.Errorf("line %d: no colon; create lines with: usher keys password", number)
		}
		if err := checkFileName(name); err != nil {
			return nil, fmt.Errorf("line %d: the name %w", number, err)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("line %d: the file contains %q twice", number, name)
		}
		h, err := parseHash(hash)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", number, name, err)
		}
		users[name] = h
	}
	return users, nil
}

// version identifies the content of a file without reading it.
type version struct{ info fs.FileInfo }

func (v version) same(info fs.FileInfo) bool {
	return v.info != nil && os.SameFile(v.info, info) && v.info.Size() == info.Size() && v.info.ModTime().Equal(info.ModTime())
}

func readUsers(path string, log *slog.Logger) (map[string]hashed, version, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, version{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, version{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxUsersBytes+1))
	if err != nil {
		return nil, version{}, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxUsersBytes {
		return nil, version{}, fmt.Errorf("%s: larger than %d bytes", path, maxUsersBytes)
	}
	users, err := parseUsers(b)
	if err != nil {
		return nil, version{}, fmt.Errorf("%s: %w", path, err)
	}
	if info.Mode().Perm()&0o004 != 0 {
		log.Warn("every user of this machine can read the password hashes; remove the permission for others", "file", path)
	}
	return users, version{info}, nil
}
