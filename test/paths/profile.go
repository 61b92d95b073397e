package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/usher-broker/usher/"

// block is a run of statements without a branch.
type block struct {
	file           string // relative to the repository
	from, to       int    // lines
	fromCol, toCol int
	statements     int
}

// profile is the set of blocks that were executed.
type profile map[block]bool

// read returns the blocks that the member has executed since its counters were
// cleared.
func (c *cluster) read(m *member) (profile, error) {
	dir, err := os.MkdirTemp(c.dir, m.name)
	if err != nil {
		return nil, err
	}
	if _, err := m.call("write " + dir); err != nil {
		return nil, err
	}
	text := filepath.Join(dir, "profile.txt")
	if out, err := exec.Command("go", "tool", "covdata", "textfmt", "-i="+dir, "-o="+text).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go tool covdata: %w\n%s", err, out)
	}
	f, err := os.Open(text)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseProfile(f)
}

// parseProfile reads the text form of a profile. Its lines are
// FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT.
func parseProfile(r io.Reader) (profile, error) {
	p := profile{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := in.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		b, count, err := parseBlock(line)
		if err != nil {
			return nil, fmt.Errorf("profile: %q: %w", line, err)
		}
		if count > 0 && !strings.HasPrefix(b.file, "test/") {
			p[b] = true
		}
	}
	return p, in.Err()
}

func parseBlock(line string) (b block, count uint64, err error) {
	file, rest, ok := strings.Cut(line, ":")
	if !ok {
		return b, 0, fmt.Errorf("has no colon")
	}
	b.file = strings.TrimPrefix(file, module)
	_, err = fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &b.from, &b.fromCol, &b.to, &b.toCol, &b.statements, &count)
	return b, count, err
}

// fileCount is how much of a file a path executes.
type fileCount struct {
	file       string
	roles      []string // sorted
	statements int
	lines      int
}

// report is what one path executes.
type report struct {
	path  string
	files []fileCount // sorted by name
}

// newReport returns what ran, without what the same role executed idle.
func newReport(path string, ran, idle map[string]profile) report {
	type file struct {
		roles  map[string]bool
		blocks profile
	}
	files := map[string]*file{}
	for role, p := range ran {
		for b := range p {
			if idle[role][b] {
				continue
			}
			f := files[b.file]
			if f == nil {
				f = &file{map[string]bool{}, profile{}}
				files[b.file] = f
			}
			f.roles[role], f.blocks[b] = true, true
		}
	}
	r := report{path: path}
	for name, f := range files {
		count := fileCount{file: name, roles: slices.Sorted(maps.Keys(f.roles))}
		lines := map[int]bool{}
		for b := range f.blocks {
			count.statements += b.statements
			for line := b.from; line <= b.to; line++ {
				lines[line] = true
			}
		}
		count.lines = len(lines)
		r.files = append(r.files, count)
	}
	slices.SortFunc(r.files, func(a, b fileCount) int { return cmp.Compare(a.file, b.file) })
	return r
}

// leaveOut removes the files of which fewer than least statements were executed.
func (r *report) leaveOut(least int) {
	r.files = slices.DeleteFunc(r.files, func(f fileCount) bool { return f.statements < least })
}

// print writes the report as text.
func (r report) print(w io.Writer) {
	statements, lines := 0, 0
	dirs := map[string]bool{}
	for _, f := range r.files {
		statements += f.statements
		lines += f.lines
		dirs[filepath.Dir(f.file)] = true
	}
	fmt.Fprintf(w, "%s: %d files in %d directories, %d statements on %d lines\n", r.path, len(r.files), len(dirs), statements, lines)
	for _, f := range r.files {
		fmt.Fprintf(w, "  %-44s %-10s %4s statements %4s lines\n", f.file, strings.Join(f.roles, " "), strconv.Itoa(f.statements), strconv.Itoa(f.lines))
	}
	fmt.Fprintln(w)
}
