"""The names that the scan looks for. A dotted name stands for itself and all below it."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


NETWORK = words(
    """
    socket _socket socketserver ssl _ssl urllib.request urllib.robotparser http.client http.server
    http.cookiejar ftplib smtplib smtpd poplib imaplib nntplib telnetlib xmlrpc wsgiref asyncore asynchat
    webbrowser multiprocessing.connection multiprocessing.managers urllib2 urllib3 requests
    requests_toolbelt httpx httpcore aiohttp aiohttp_client websocket websockets wsproto h2 h11 httplib2
    pycurl treq twisted tornado gevent.socket eventlet trio.socket anyio.connect_tcp paramiko asyncssh scp
    fabric netmiko ftputil pysftp aioftp grpc grpclib zmq pika kombu celery kafka confluent_kafka redis
    pymongo psycopg psycopg2 pymysql MySQLdb asyncpg ldap3 dns scapy nmap socks stomp nats paho telethon
    slack slack_sdk discord telegram tweepy wget gdown flask fastapi uvicorn gradio streamlit ngrok pyngrok
    """
)
UPLOAD = words(
    """
    azure azureml boto boto3 botocore aiobotocore s3transfer s3fs google.cloud google.auth google.oauth2
    googleapiclient gcsfs adlfs oss2 qiniu minio dropbox ibm_boto3 ibm_cos_sdk oci cloudstorage libcloud
    smart_open wandb comet_ml neptune neptune_client clearml sagemaker huggingface_hub kaggle kagglehub
    roboflow dvc databricks snowflake pydrive pydrive2 b2sdk swiftclient openstack sentry_sdk datadog
    newrelic aim.sdk opentelemetry.exporter
    """
)
PROCESS = words(
    """
    subprocess _posixsubprocess pty pexpect plumbum ptyprocess os.system os.popen os.fork os.forkpty
    os.posix_spawn os.posix_spawnp os.startfile os.execl os.execle os.execlp os.execlpe os.execv os.execve
    os.execvp os.execvpe os.spawnl os.spawnle os.spawnlp os.spawnlpe os.spawnv os.spawnve os.spawnvp
    os.spawnvpe posix.system posix.fork posix.execv posix.execve posix.posix_spawn nt.system
    asyncio.create_subprocess_exec asyncio.create_subprocess_shell asyncio.subprocess IPython.get_ipython
    """
)
DYNAMIC = words(
    """
    marshal runpy zipimport imp codeop code.InteractiveInterpreter code.InteractiveConsole types.CodeType
    importlib.reload importlib.util.spec_from_file_location importlib.util.module_from_spec
    importlib.util.spec_from_loader importlib.machinery builtins.eval builtins.exec builtins.compile
    """
)
NATIVE = words(
    """
    ctypes _ctypes cffi _cffi_backend cppyy numpy.ctypeslib torch.utils.cpp_extension torch.ops.load_library
    """
)
REMOTE = words(
    """
    asyncio.open_connection asyncio.start_server asyncio.open_unix_connection torch.hub.load
    torch.hub.download_url_to_file torch.hub.load_state_dict_from_url torch.utils.model_zoo.load_url
    torchvision.datasets.utils.download_url tensorflow.keras.utils.get_file keras.utils.get_file
    nltk.download sklearn.datasets.fetch_openml sklearn.datasets.fetch_20newsgroups
    sklearn.datasets.fetch_california_housing sklearn.datasets.fetch_covtype sklearn.datasets.fetch_kddcup99
    sklearn.datasets.fetch_lfw_people sklearn.datasets.fetch_lfw_pairs sklearn.datasets.fetch_olivetti_faces
    sklearn.datasets.fetch_rcv1 sklearn.datasets.fetch_species_distributions
    """
)
RULES: tuple[tuple[str, frozenset[str]], ...] = (
    ("E611", NETWORK),
    ("E612", UPLOAD),
    ("E613", PROCESS),
    ("E614", DYNAMIC),
    ("E615", NATIVE),
    ("E617", REMOTE),
)

# Modules of which the scan wants to see by name what is taken.
WATCHED = words("os posix nt sys builtins __builtins__ importlib subprocess socket ctypes asyncio types code")
INSIDES = words("__subclasses__ __globals__ __builtins__ __loader__ f_globals f_builtins gi_frame")

PROGRAMS = {
    **dict.fromkeys(
        words(
            """
    curl wget nc ncat netcat socat telnet ssh sftp scp rsync ftp lftp tftp aria2c axel http https xh httpie
    mail sendmail mutt msmtp dig nslookup host ping traceroute nmap tcpdump iptables ip ifconfig wg openvpn
    tor torify ssh-copy-id sshfs mount.nfs smbclient rclone restic croc magic-wormhole wormhole transfer
    ngrok cloudflared
    """
        ),
        "E618",
    ),
    **dict.fromkeys(
        words(
            """
    az azcopy aws s3cmd s5cmd gsutil gcloud oci ibmcloud doctl mc b2 swift huggingface-cli hf wandb kaggle
    dvc databricks snow gh glab hub
    """
        ),
        "E618",
    ),
    **dict.fromkeys(
        words("docker podman nerdctl kubectl crictl ctr helm systemctl crontab at chroot nsenter unshare"), "E613"
    ),
    **dict.fromkeys(words("easy_install brew snap"), "E619"),
}
INSTALLERS = words(
    "pip pip2 pip3 pipx uv poetry pdm conda mamba micromamba apt apt-get aptitude apk yum dnf zypper npm yarn"
)
INSTALLING = words("install add sync download upgrade update dist-upgrade create")
PACKAGES = words(
    """
    boto3 botocore aiobotocore s3transfer s3fs s3cmd awscli azure-storage-blob azure-storage-file-share
    azure-storage-file-datalake azure-storage-queue azure-identity azure-cli azure-cli-core azure-ai-ml
    azureml-core google-cloud-storage google-cloud-bigquery google-cloud-aiplatform google-api-python-client
    gcsfs adlfs oss2 minio dropbox oci smart-open wandb comet-ml neptune neptune-client clearml sagemaker
    kaggle kagglehub roboflow dvc dvc-s3 dvc-azure dvc-gs snowflake-connector-python pydrive pydrive2 b2sdk
    python-swiftclient paramiko asyncssh fabric scp pysftp aioftp ftputil netmiko scapy websocket-client
    pycurl gdown wget slack-sdk discord-py python-telegram-bot telethon tweepy sentry-sdk datadog newrelic
    pyngrok pika kafka-python confluent-kafka redis pymongo psycopg psycopg2 psycopg2-binary pymysql asyncpg
    pexpect
    """
)


def rule_of(dotted: str) -> tuple[str, str] | None:
    """The rule that a dotted name falls under, and the listed name."""
    for code, names in RULES:
        name = dotted
        while name:
            if name in names:
                return code, name
            name = name.rpartition(".")[0]
    return None
