//! The S3 server takes what a client puts and refuses strangers.
#![cfg(feature = "s3")]

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use weir_plugins_test::s3;

fn client(bucket: &s3::Bucket, secret: &str) -> impl ObjectStore {
    AmazonS3Builder::new()
        .with_bucket_name(bucket.name())
        .with_endpoint(bucket.endpoint())
        .with_access_key_id(s3::ACCESS_KEY)
        .with_secret_access_key(secret)
        .with_region(s3::REGION)
        .with_allow_http(true)
        .build()
        .unwrap()
}

#[tokio::test]
async fn objects_go_there_and_back() {
    let bucket = s3::fresh_bucket("Orders");
    bucket.put("in/a.csv", "1,2\n");
    let store = client(&bucket, s3::SECRET_KEY);
    let path = Path::from("in/a.csv");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "1,2\n");
    store.put(&Path::parse("out/é b.csv").unwrap(), "3\n".into()).await.unwrap();
    assert_eq!(bucket.get("out/é b.csv").unwrap(), b"3\n");
    store.copy(&path, &Path::from("in/b.csv")).await.unwrap();
    assert_eq!(bucket.get("in/b.csv"), bucket.get("in/a.csv"));
    assert!(client(&bucket, "wrong").get(&Path::from("in/b.csv")).await.is_err());
}
