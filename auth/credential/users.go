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

// maxUsersBytes bounds a users file: about half a million users.
const maxUsersBytes = 64 << 20

// checkFileName reports why a name cannot stand in a users file.
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

// parseUsers reads lines of the form name:hash. Empty lines and those that
// begin with # are passed over. An error names the line and nothing that
// stands in it but its name.
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
			return nil, fmt.Errorf("line %d: no colon; «usher keys password» makes these lines", number)
		}
		if err := checkFileName(name); err != nil {
			return nil, fmt.Errorf("line %d: the name %w", number, err)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("line %d: %q stands in the file twice", number, name)
		}
		h, err := parseHash(hash)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", number, name, err)
		}
		users[name] = h
	}
	return users, nil
}

// version tells one content of a file from another without reading it.
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
		log.Warn("everybody on this machine may read the password hashes", "file", path)
	}
	return users, version{info}, nil
}
