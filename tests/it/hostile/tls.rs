//! TLS that the server requires, does not have, or proves with a certificate of nobody we trust.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_plugins_test::s3::{self, ACCESS_KEY, SECRET_KEY};
use weir_plugins_test::servers::{self, Database, Family, OwnServer, PASSWORD};

use super::{Place, at_stores};
use crate::support::job_of;

/// An authority, a server's certificate for localhost and 127.0.0.1, and one for another name.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// `None` where there is no `openssl`, and that is said.
    fn make() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // Servers run as users of their own.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        let script = format!(
            "set -e
            for ca in ca other; do
              openssl req -x509 {key} -keyout $ca.key -out $ca.pem -days 2 -subj /CN=weir-$ca \
                -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
            done
            for name in localhost elsewhere.example; do
              san=DNS:$name; if [ $name = localhost ]; then san=DNS:localhost,IP:127.0.0.1; fi
              printf \"subjectAltName=$san\\nbasicConstraints=CA:FALSE\\n\" > ext
              openssl req {key} -keyout $name.key -out $name.csr -subj /CN=$name
              openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $name.pem
            done
            openssl x509 -in ca.pem -outform DER -out ca.der
            chmod 644 *"
        );
        let made = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
        if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
            weir_plugins_test::not_run("there is no openssl to make certificates with");
            return None;
        }
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// Runs a job that reads the table through `url`: its exit code and what it must say.
fn reads(plugin: &str, url: &str, code: i32, words: &[&str]) {
    let place = Place::new();
    let job =
        job_of(plugin, json!({"url": url, "table": "t"}), "files", json!({"path": "out.csv", "writeMode": "truncate"}));
    place.job(&job);
    let ended = place.call(&["run", "job.json"]);
    println!("{url}: {:?}\n{}", ended.code, ended.err);
    ended.says(code, words);
    assert!(!ended.err.contains("we/ir") && !ended.err.contains("%2F"), "{}", ended.err);
    assert_eq!(place.path("out.csv").exists(), code == 0);
}

async fn table(database: &Database) {
    database.execute("CREATE TABLE t (id int NOT NULL PRIMARY KEY)").await;
    database.execute("INSERT INTO t VALUES (1)").await;
}

/// Has the server read its settings, its rules and its certificate; sessions from now on are under these.
async fn reload(database: &Database) {
    let before = database.value("SELECT pg_conf_load_time()::text").await;
    database.execute("SELECT pg_reload_conf()").await;
    database.until(&format!("SELECT (pg_conf_load_time() > '{before}')::int")).await;
}

fn own(family: Family, arguments: &[String]) -> OwnServer {
    let arguments = arguments.to_vec();
    tokio::task::block_in_place(|| OwnServer::start_with(family, &arguments)).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_with_tls_of_every_kind() {
    let Some(certificates) = Certificates::make() else { return };
    let server = own(Family::PostgreSql, &[]);
    let database = server.server().fresh_database("tls").await;
    table(&database).await;
    let url = |more: &str| format!("{}{more}", database.url());
    // No TLS at the server.
    reads("postgresql", &url("?sslmode=require"), 1, &["TLS", "sslmode"]);
    reads("postgresql", &url(""), 0, &[]);

    // The key is the server's alone, or it refuses to use it.
    let data = database.value("SHOW data_directory").await;
    let install = async |name: &str| {
        let owner = std::fs::metadata(&data).unwrap();
        for end in ["pem", "key"] {
            let to = Path::new(&data).join(format!("server.{end}"));
            let _ = std::fs::remove_file(&to);
            std::fs::copy(certificates.path(&format!("{name}.{end}")), &to).unwrap();
            std::fs::set_permissions(&to, PermissionsExt::from_mode(0o600)).unwrap();
            std::os::unix::fs::chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        for set in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
            database.execute(&format!("ALTER SYSTEM SET {set}")).await;
        }
        reload(&database).await;
    };
    install("localhost").await;
    // TLS for everybody but the test's own user.
    let hba = database.value("SHOW hba_file").await;
    let rules = "hostssl all all all scram-sha-256\nhost all weir all scram-sha-256\n";
    std::fs::write(&hba, rules).unwrap();
    database.execute(&format!("CREATE USER careful PASSWORD '{PASSWORD}'; GRANT SELECT ON t TO careful")).await;
    reload(&database).await;
    let url = |more: String| format!("{}{more}", database.url_with("careful", PASSWORD));
    let (ca, other) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    reads("postgresql", &url("?sslmode=disable".into()), 1, &["encryption", "pg_hba"]);
    reads("postgresql", &url(format!("?sslmode=disable&sslrootcert={ca}.gone")), 1, &["encryption", "pg_hba"]);
    for (mode, root) in [
        ("prefer", ""),
        ("require", ""),
        ("require", ca.as_str()),
        ("verify-ca", ca.as_str()),
        ("verify-full", ca.as_str()),
    ] {
        let root = if root.is_empty() { String::new() } else { format!("&sslrootcert={root}") };
        reads("postgresql", &url(format!("?sslmode={mode}{root}")), 0, &[]);
    }
    // As libpq has it, who names an authority wants it looked at.
    for (mode, root) in [
        ("verify-full", ""),
        ("require", other.as_str()),
        ("verify-ca", other.as_str()),
        ("verify-full", other.as_str()),
    ] {
        let root = if root.is_empty() { String::new() } else { format!("&sslrootcert={root}") };
        reads("postgresql", &url(format!("?sslmode={mode}{root}")), 1, &["TLS", "sslrootcert", "certificate"]);
    }
    reads("postgresql", &url(format!("?sslmode=verify-full&sslrootcert={ca}.gone")), 1, &["ca.pem.gone"]);
    let key = certificates.path("ca.key");
    reads("postgresql", &url(format!("?sslmode=require&sslrootcert={key}")), 1, &["sslrootcert", "ca.key", "none"]);
    // The right authority, another server's name.
    install("elsewhere.example").await;
    reads("postgresql", &url(format!("?sslmode=verify-ca&sslrootcert={ca}")), 0, &[]);
    reads("postgresql", &url(format!("?sslmode=verify-full&sslrootcert={ca}")), 1, &["TLS", "certificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_with_tls_of_every_kind() {
    let Some(certificates) = Certificates::make() else { return };
    let with = |name: &str| {
        let path = |end: &str| certificates.path(&format!("{name}.{end}"));
        own(
            Family::MariaDb,
            &[
                format!("--ssl-cert={}", path("pem")),
                format!("--ssl-key={}", path("key")),
                format!("--ssl-ca={}", certificates.path("ca.pem")),
            ],
        )
    };
    let (ca, other) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    let server = with("localhost");
    let database = server.server().fresh_database("tls").await;
    table(&database).await;
    let create = format!(
        "CREATE USER careful@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT SELECT ON {}.* TO careful@'%'",
        database.name()
    );
    database.execute(&create).await;
    let url = |more: String| format!("{}{more}", database.url_with("careful", PASSWORD));
    reads("mysql", &url("?sslMode=disabled".into()), 1, &["denied"]);
    let der = certificates.path("ca.der");
    for (mode, root) in [
        ("preferred", ""),
        ("required", ""),
        ("verify-ca", ca.as_str()),
        ("verify-identity", ca.as_str()),
        ("verify-identity", der.as_str()),
    ] {
        let root = if root.is_empty() { String::new() } else { format!("&sslCa={root}") };
        reads("mysql", &url(format!("?sslMode={mode}{root}")), 0, &[]);
    }
    for (mode, root) in [("verify-identity", ""), ("verify-ca", other.as_str()), ("verify-identity", other.as_str())] {
        let root = if root.is_empty() { String::new() } else { format!("&sslCa={root}") };
        reads("mysql", &url(format!("?sslMode={mode}{root}")), 1, &["TLS", "sslCa", "certificate"]);
    }
    reads("mysql", &url(format!("?sslMode=verify-ca&sslCa={ca}.gone")), 1, &["sslCa", "ca.pem.gone"]);
    drop(server);

    let server = with("elsewhere.example");
    let database = server.server().fresh_database("tls").await;
    table(&database).await;
    // The right authority, another server's name: only one of the two modes minds.
    reads("mysql", &format!("{}?sslMode=verify-identity&sslCa={ca}", database.url()), 1, &["TLS", "certificate"]);
    reads("mysql", &format!("{}?sslMode=verify-ca&sslCa={ca}", database.url()), 0, &[]);
    reads("mysql", &format!("{}?sslMode=verify-ca&sslCa={other}", database.url()), 1, &["TLS", "certificate"]);
    drop(server);

    // No TLS at the server.
    let plain = servers::mariadb().await.fresh_database("tls").await;
    table(&plain).await;
    reads("mysql", &format!("{}?sslMode=required", plain.url()), 1, &["TLS", "sslMode"]);
    reads("mysql", &plain.url(), 0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_with_its_own_certificate() {
    // It makes a certificate of its own authority when it is set up.
    let database = servers::mysql().await.fresh_database("tls").await;
    table(&database).await;
    let user = database.name().replace("weir_tls", "c");
    let create = format!(
        "CREATE USER {user} IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT SELECT ON {}.* TO {user}",
        database.name()
    );
    database.execute(&create).await;
    let url = |more: &str| format!("{}{more}", database.url_with(&user, PASSWORD));
    reads("mysql", &url("?sslMode=disabled"), 1, &["denied"]);
    reads("mysql", &url("?sslMode=required"), 0, &[]);
    reads("mysql", &url(""), 0, &[]);
    reads("mysql", &url("?sslMode=verify-identity"), 1, &["TLS", "certificate"]);
}

/// Runs a job that has an object store at one end: its exit code and what it must say, soon.
fn meets(job: &Value, trusted: &str, code: i32, words: &[&str]) {
    let place = Place::new();
    place.job(job);
    let begun = std::time::Instant::now();
    let ended = place.command(&["run", "job.json"]).env("SSL_CERT_FILE", trusted).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    println!("{:?} after {:?}: {said}", ended.status.code(), begun.elapsed());
    assert_eq!(ended.status.code(), Some(code), "{said}\n{job:#}");
    for word in words {
        assert!(said.contains(word), "does not say `{word}`: {said}\n{job:#}");
    }
    assert!(!said.contains(SECRET_KEY), "{said}");
    // Asking again mends no certificate.
    assert!(code == 0 || begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn object_stores_with_tls_of_every_kind() {
    let Some(certificates) = Certificates::make() else { return };
    let bucket = s3::fresh_bucket("tls");
    bucket.put("in.csv", "id\n1\n");
    let tls = |name: &str| {
        let path = |end: &str| certificates.folder.path().join(format!("{name}.{end}"));
        bucket.tls_endpoint(&path("pem"), &path("key"))
    };
    let (good, elsewhere) = (tls("localhost"), tls("elsewhere.example"));
    let jobs = |endpoint: &str| {
        let options = json!({"endpoint": endpoint, "accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY});
        at_stores(&bucket.url(""), &options)
    };
    let (ca, other) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    tokio::task::block_in_place(|| {
        // The lake is written before it is read.
        for job in jobs(&good).iter().rev() {
            meets(job, &ca, 0, &[]);
        }
        for job in jobs(&good) {
            meets(&job, &other, 1, &["TLS with the store failed", "UnknownIssuer", "SSL_CERT_FILE"]);
        }
        for job in jobs(&elsewhere) {
            meets(&job, &ca, 1, &["TLS with the store failed", "not valid for name", "SSL_CERT_FILE"]);
        }
        // A store that has no TLS, and one that has nothing else.
        for job in jobs(&bucket.endpoint().replace("http:", "https:")) {
            meets(&job, &ca, 1, &["TLS with the store failed"]);
        }
        for job in jobs(&good.replace("https:", "http:")) {
            meets(&job, &ca, 1, &["the stor"]);
        }
    });
}
