package credential

import (
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestUsersFileRefuses(t *testing.T) {
	good := cheap(t, "x")
	hash := func(old, new string) string { return "ada:" + strings.Replace(good, old, new, 1) }
	for name, c := range map[string]struct{ file, want string }{
		"no colon":           {"ada", "no colon"},
		"no name":            {":" + good, "the name is empty"},
		"name with control":  {"a\x01:" + good, "cannot be shown"},
		"name with spaces":   {"ada :" + good, "begins or ends with a space"},
		"not UTF-8":          {"ad\xff:" + good, "cannot be shown"},
		"long name":          {strings.Repeat("n", 129) + ":" + good, "longer"},
		"twice":              {"ada:" + good + "\nbob:" + good + "\nada:" + good, "line 3: the file contains \"ada\" twice"},
		"password, no hash":  {"ada:s3cret", "not of the form"},
		"bcrypt":             {"ada:$2y$10$abcdefghijklmnopqrstuv", "not of the form"},
		"argon2i":            {hash("argon2id", "argon2i"), "not of the form"},
		"version":            {hash("v=19", "v=16"), "not of the form"},
		"cut":                {"ada:" + good[:20], "not of the form"},
		"long hash":          {"ada:" + good + strings.Repeat("A", 500), "too long"},
		"memory":             {hash("m=8,", "m=4194304,"), "m=4194304"},
		"memory, one over":   {hash("m=8,", "m=65537,"), "m=65537"},
		"memory, overflow":   {hash("m=8,", "m=4294967304,"), "not of the form"},
		"no memory":          {hash("m=8,", "m=0,"), "m=0"},
		"memory for threads": {hash("p=1", "p=2"), "m=8"},
		"no passes":          {hash("t=1", "t=0"), "t=0"},
		"passes":             {hash("t=1", "t=11"), "t=11"},
		"no threads":         {hash("p=1", "p=0"), "p=0"},
		"threads":            {strings.Replace(hash("m=8,", "m=64,"), "p=1", "p=5", 1), "p=5"},
		"threads, overflow":  {hash("p=1", "p=257"), "not of the form"},
		"more than numbers":  {hash("p=1", "p=1,x=2"), "not of the form"},
		"version and more":   {hash("v=19", "v=19x"), "not of the form"},
		"sign":               {hash("m=8", "m=+8"), "not of the form"},
		"short key":          {"ada:" + good[:len(good)-12], ""},
		"no salt":            {"ada:$argon2id$v=19$m=8,t=1,p=1$$AAAAAAAAAAAAAAAAAAAAAA", "salt of 0"},
		"padding":            {"ada:" + good + "==", "not of the form"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenPassword(usersFile(t, c.file), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "line ") {
				t.Fatalf("error is %v", err)
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), good[len(good)-10:]) {
				t.Errorf("the error contains the hash: %v", err)
			}
		})
	}
	if _, err := OpenPassword(t.TempDir()+"/none", slog.New(slog.DiscardHandler)); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

func TestWorldReadableUsersFileIsLogged(t *testing.T) {
	var log logBuffer
	path := usersFile(t, "ada:"+cheap(t, "x"))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPassword(path, slog.New(slog.NewTextHandler(&log, nil))); err != nil || !strings.Contains(log.String(), path) {
		t.Errorf("%v, log is %q", err, &log)
	}
}

func TestHashLine(t *testing.T) {
	a, err := HashLine("ada", "x")
	if err != nil {
		t.Fatal(err)
	}
	b, err := HashLine("ada", "x")
	if err != nil || a == b || !strings.HasPrefix(a, "ada:$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(a, "\n") {
		t.Errorf("lines are %q and %q, %v", a, b, err)
	}
	for _, c := range [][2]string{
		{"", "x"},
		{"a:b", "x"},
		{"#a", "x"},
		{"a\nb", "x"},
		{" a", "x"},
		{strings.Repeat("a", 129), "x"},
		{"ada", ""},
		{"ada", strings.Repeat("x", 1025)},
	} {
		if line, err := HashLine(c[0], c[1]); err == nil {
			t.Errorf("%.20q, %.20q: %q", c[0], c[1], line)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte("# users\n\nada:" + cheap(f, "x") + "\r\n"))
	f.Add([]byte("ada:$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"))
	f.Add([]byte(":\n#\n::"))
	f.Fuzz(func(t *testing.T, file []byte) {
		users, err := parseUsers(file)
		if err != nil && users != nil {
			t.Error("users and an error")
		}
		for name, h := range users {
			if checkFileName(name) != nil || h.threads < 1 || h.threads > 4 || len(h.text) > 512 {
				t.Errorf("%q: %+v", name, h)
			}
		}
	})
}
