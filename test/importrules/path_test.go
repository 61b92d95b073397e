package importrules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxPathFiles is how many files docs/path.md lists for one path of a session.
const maxPathFiles = 20

// TestPathDocument checks that docs/path.md has four diagrams, each followed by a list
// of files that exist.
func TestPathDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "path.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## ")
	paths := 0
	for section := range strings.SplitSeq(rest, "\n## ") {
		title, body, _ := strings.Cut(section, "\n")
		files := regexp.MustCompile(`(?m)^\| \d+ \| \[(.+)\]\(\.\./(.+)\) \|`).FindAllStringSubmatch(body, -1)
		if !strings.Contains(body, "```mermaid\nsequenceDiagram\n") {
			continue
		}
		paths++
		if n := len(files); n == 0 || n > maxPathFiles {
			t.Errorf("%s: %d files, want 1 to %d", title, n, maxPathFiles)
		}
		for _, f := range files {
			if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(f[2]))); f[1] != f[2] || err != nil || info.IsDir() {
				t.Errorf("%s: [%s](../%s) is not a file under its name", title, f[1], f[2])
			}
		}
	}
	if paths != 4 {
		t.Errorf("%d diagrams, want 4", paths)
	}
}
